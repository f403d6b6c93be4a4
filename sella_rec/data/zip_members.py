"""Which members of a zip are read as the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any
from zipfile import BadZipFile, ZipInfo

from fsspec.implementations.zip import ZipFileSystem

from sella_rec.data.errors import DataError

_ENCRYPTED = 1


def members(filesystem: Any, path: str, name: str, format_of: Callable[[str], object]) -> Iterator[tuple[Any, str]]:
    """File system and path of each member of the zip at `path` that can be data: the only one, or all of one extension.

    Args:
        name: what messages call the zip.
        format_of: what a file's name says of its format; none if that is not read.

    Raises:
        DataError: damaged, encrypted, none, or of several extensions: then the error lists their addresses.
    """
    try:
        archive = ZipFileSystem(filesystem.open(path, "rb"))
    except BadZipFile as error:
        raise DataError(f"{name}: damaged zip ({error}); copy or download it again") from error
    infos = [info for info in archive.zip.infolist() if not info.is_dir() and not _hidden(info.filename)]
    known = sorted((info for info in infos if format_of(info.filename)), key=lambda info: info.filename)
    if not known:
        there = ", ".join(repr(info.filename) for info in infos[:5]) or "nothing"
        raise DataError(f"{name}: contains no file of a known format, but {there}; unpack it")
    _check_locks(known, name)
    if len({(PurePosixPath(info.filename.lower()).suffix, format_of(info.filename)) for info in known}) > 1:
        addresses = " ".join(f"'zip://{info.filename}::{name}'" for info in known)
        raise DataError(f"{name}: contains files of several formats; choose one by its address: {addresses}")
    for info in known:
        yield archive, info.filename


def _check_locks(known: list[ZipInfo], name: str) -> None:
    locked = next((info for info in known if info.flag_bits & _ENCRYPTED), None)
    if locked:
        raise DataError(f"{name}: {locked.filename} is encrypted; unpack it with its password, for example 7z x")


def _hidden(member: str) -> bool:
    return any(part.startswith((".", "_")) for part in member.split("/"))
