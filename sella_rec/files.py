"""Files and folders: written whole or not at all, and found by path or URI on any store that fsspec knows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from sella_rec.transient import PatientStore


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


def open_store(uri: str, error_of: Callable[[str], Exception]) -> tuple[Any, str]:
    """The file system behind a path or URI, and what it calls the place; steps wait for one that is away.

    Args:
        error_of: makes the error from its message.

    Raises:
        Exception: of `error_of`: not an address, or no driver for its kind.
    """
    try:
        filesystem, path = url_to_fs(uri)
    except ImportError as error:
        message = f"{uri}: the driver for this kind of address is not installed: {error} (with pip)"
        raise error_of(message) from error
    except ValueError as error:
        raise error_of(f"{uri}: {error}; give a path or an fsspec URI such as s3://bucket/folder") from error
    return filesystem if isinstance(filesystem, LocalFileSystem) else PatientStore(filesystem), path
