"""Atomic outputs: a step's file or folder appears whole at its final path, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_output(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling path to write a file or folder to; move it into place on success.

    A previous output at `path` is replaced. On an exception the temporary is removed and `path` is untouched.

    Raises:
        FileNotFoundError: the block wrote nothing to the temporary path.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary, replaced = (final.with_name(f".{final.name}.{os.getpid()}.{suffix}") for suffix in ("tmp", "old"))
    # a killed process may have left them under a process id that has come round again
    _remove(temporary)
    _remove(replaced)
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"nothing was written to {temporary}, so {final} is left as it was")
        if final.is_dir():
            # a folder cannot be replaced in one move: out of the way first, so that a kill loses neither
            final.replace(replaced)
        temporary.replace(final)
        _remove(replaced)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
