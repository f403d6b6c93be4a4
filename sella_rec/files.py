"""Files and folders: written whole or not at all, and found by path or URI on any store that fsspec knows."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from fsspec.config import conf
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from sella_rec.errors import UserError
from sella_rec.object_store import use_step_credentials
from sella_rec.reachable import check_answers, open_within
from sella_rec.transient import PatientStore, retrying

# where a package is not called as its module
_PACKAGES = {"smbclient": "smbprotocol", "lakefs_spec": "lakefs-spec", "libarchive": "libarchive-c"}


@contextmanager
def atomic_output(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling path to write a file or folder to; move it into place on success.

    A previous output at `path` is replaced, by one of its kind: steps own their outputs. For a path that a user names,
    see `outputs`. On an exception the temporary is removed and `path` is untouched.

    Raises:
        FileNotFoundError: the block wrote nothing to the temporary path.
        IsADirectoryError, NotADirectoryError: it wrote a file where a folder is, or a folder where a file is.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary, replaced = (final.with_name(f".{final.name}.{os.getpid()}.{suffix}") for suffix in ("tmp", "old"))
    # a killed process may have left them, and process ids are reused
    _remove(temporary)
    _remove(replaced)
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"nothing was written to {temporary}; {final} is unchanged")
        if final.is_dir() and not temporary.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder is in the place of the file", str(final))
        if final.is_dir():
            # a folder cannot be replaced in one move: out of the way first, so that a kill loses neither
            final.replace(replaced)
        try:
            temporary.replace(final)
        except OSError:
            if replaced.exists():
                replaced.replace(final)
            raise
        _remove(replaced)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def refusals_told(folder: Path, variable: str) -> Iterator[None]:
    """Say who may not write where, when what the block does is refused by a volume that belongs to somebody else.

    Args:
        folder: below which the block writes.
        variable: of the environment, that names the folder.

    Raises:
        UserError: a file system refused; also where a library's error hides that it did.
    """
    try:
        yield
    except Exception as error:
        refused = next((each for each in _causes(error) if _is_refusal(each)), None)
        if refused is None:
            raise
        user = os.geteuid()
        fix = f"let user {user} read and write there (docs/operations.md, Volumes), or set {variable} to another folder"
        where = f"{refused.filename or folder} ({variable}={folder})"
        raise UserError(f"{where}: {refused.strerror} for user {user}: {fix}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_refusal(error: BaseException) -> TypeGuard[OSError]:
    return isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def open_store(uri: str, error_of: Callable[[str], Exception]) -> tuple[Any, str]:
    """The file system behind a path or URI, and what it calls the place; steps wait for one that is away.

    Args:
        error_of: makes the error from its message.

    Raises:
        Exception: of `error_of`: not an address, no driver for its kind, or a store that does not answer or lets
            nobody in.
    """
    use_step_credentials()
    # proxies of the environment, and accounts in ~/.netrc
    conf.setdefault("https", {}).setdefault("client_kwargs", {"trust_env": True})
    # of zip://ratings.csv::https://host/ml.zip what is asked is the host
    store = uri.rpartition("::")[2]
    try:
        filesystem, path = open_within(store, partial(url_to_fs, store), error_of)
        retrying(partial(check_answers, filesystem, store, error_of))
        if store != uri:
            filesystem, path = url_to_fs(uri)
    except ImportError as error:
        message = f"{uri}: the driver for this kind of address is not installed: {error}; pip install {_package(error)}"
        raise error_of(message) from error
    except ValueError as error:
        raise error_of(f"{uri}: {error}; give a path or an fsspec URI such as s3://bucket/folder") from error
    return filesystem if isinstance(filesystem, LocalFileSystem) else PatientStore(filesystem), path


def _package(error: ImportError) -> str:
    """What to install for a driver: fsspec raises from Python's own error, which names the module."""
    module = getattr(error.__cause__ or error.__context__, "name", None) or str(error).split()[-1]
    return _PACKAGES.get(module.partition(".")[0], module.partition(".")[0])
