"""What makes a step's earlier result valid: the source that it was made with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

_SOURCE = (".py", ".j2", ".css")


def code_version(step: str | None = None) -> str:
    """Hash of the source that a step runs, templates included: 16 hexadecimal digits.

    That is the library without its server, what components share, and the step's own folder; of all steps where none is
    named.

    Args:
        step: its name, with hyphens.
    """
    digest = hashlib.sha256()
    for name, file in sorted(_sources(step)):
        digest.update(f"{name}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _sources(step: str | None) -> Iterator[tuple[str, Path]]:
    for package in ("sella_rec", "components"):
        root = _root(package)
        for file in root.rglob("*"):
            *folders, _ = file.relative_to(root).parts
            if file.suffix in _SOURCE and _counts(package, folders, step):
                yield f"{package}/{file.relative_to(root).as_posix()}", file


def _counts(package: str, folders: list[str], step: str | None) -> bool:
    if package == "sella_rec":
        return folders[:1] != ["serving"]
    return step is None or not folders or folders[0] == step.replace("-", "_")


def _root(package: str) -> Path:
    spec = find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    assert locations, f"{package} is not installed"
    return Path(locations[0])
