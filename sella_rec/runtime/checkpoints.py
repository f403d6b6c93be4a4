"""Where a step writes the checkpoints that outlive a killed attempt."""

from __future__ import annotations

import fcntl
import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from sella_rec.environment import CHECKPOINTS, lock_file
from sella_rec.files import refusals_told

# Held open until the process ends: the lock goes with it.
_locks: list[IO[bytes]] = []
_TIMES_FILE = "steps.json"


def checkpoint_folder(root: Path, key: Iterable[str], inputs: Mapping[str, Path]) -> Path:
    """The folder for work that is the same in every respect: `key` and the content of `inputs`.

    Under `sella run` this waits until no other process uses it: a killed run's last step may need a moment to end.

    Raises:
        UserError: this account may not write there.
    """
    digest = hashlib.sha256()
    key = list(key)
    for part in key:
        digest.update(part.encode() + b"\0")
    for name, path in sorted(inputs.items()):
        digest.update(f"{name}={content_digest(path)}\0".encode())
    folder = root / f"{key[0]}-{digest.hexdigest()[:16]}"
    with refusals_told(root, CHECKPOINTS):
        folder.mkdir(parents=True, exist_ok=True)
        # one that an attempt under another account has left is no better than none
        tempfile.TemporaryFile(dir=folder).close()
    # network file systems, where clusters keep checkpoints, may not support locks
    if lock_file():
        lock = folder.with_suffix(".lock").open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        _locks.append(lock)
    return folder


def content_digest(path: Path) -> str:
    """SHA-256 over names and contents of a folder's files, times of earlier steps left out."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if file.name == _TIMES_FILE:
            continue
        digest.update(f"{file.relative_to(path)}\0".encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
