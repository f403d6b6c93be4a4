"""Which commit the source stands at."""

from __future__ import annotations

import subprocess
from pathlib import Path

import components


def git_commit() -> str | None:
    """The commit that the source stands at; none outside a git checkout."""
    root = Path(components.__path__[0]).parent
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
