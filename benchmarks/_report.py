"""Where a figure came from: commit, machine, library versions, for the line under a table."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import date
from importlib.metadata import version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS_PAGE, SERVING_PAGE = (REPOSITORY / "docs" / f"{name}.md" for name in ("results", "serving"))


def commit() -> str:
    """Short hash of the commit; a working tree whose code has changed is called dirty."""
    short = _git("rev-parse", "--short", "HEAD")
    changed = _git(
        "status", "--porcelain", "--", "components", "pipeline", "sella_rec", "benchmarks/*.py", "benchmarks/paper/*.py"
    )
    return f"{short} (dirty)" if changed else short


def provenance(data: str, seeds: list[int]) -> str:
    """One sentence in Markdown on where figures made now came from."""
    return f"Commit {commit()}, {date.today().isoformat()}; {data}; {seeds_drawn(seeds)}; {machine()}."


def seeds_drawn(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def machine() -> str:
    """The GPU, if there is one, the processor, and the versions of what computes on them."""
    import torch  # late: it takes seconds

    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    cores = f"{os.cpu_count()} cores of {_processor()}"
    return f"{gpu}{cores}; Python {platform.python_version()}, {libraries}"


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    names = information.read_text().splitlines() if information.exists() else []
    named = next((line.partition(":")[2].strip() for line in names if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def replace_block(name: str, text: str, path: Path) -> None:
    """Put `text` between `<!-- name:begin -->` and `<!-- name:end -->` of a Markdown file.

    Raises:
        ValueError: the file lacks one of the marks.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    page = path.read_text()
    if begin not in page or end not in page:
        raise ValueError(f"{path.name} has no block between {begin} and {end}")
    head, rest = page.split(begin, 1)
    path.write_text(f"{head}{begin}\n{text.strip()}\n{end}{rest.split(end, 1)[1]}")
