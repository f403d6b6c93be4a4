"""From a file, folder, glob or fsspec URI to the uncompressed bytes of each file."""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from sella_rec.addresses import without_password
from sella_rec.data.errors import DataError
from sella_rec.data.listing import Found, find
from sella_rec.data.zip_members import members
from sella_rec.files import open_store

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".txt": "csv",
    ".psv": "csv",
    ".inter": "csv",
    ".item": "csv",
    ".dat": "dat",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".user": "csv",
}
# of these an empty file is one without rows, of others a damaged one
_TEXT = ("csv", "dat", "json")
# pyarrow's names; it decompresses in C++, outside Python's lock
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2", ".xz": "xz"}
_CHUNK_BYTES = 1 << 26
# what stores call the size, the time of change and the checksum of a file
_CHANGING = ("size", "mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "generation")


@dataclass(frozen=True)
class File:
    """One file behind an address.

    Attributes:
        name: what messages call it; of a member of a zip an address that can be given as `data.interactions`.
        kind: a value of `FORMATS`.
        compression: a value of `_COMPRESSIONS`, or empty.
        partitions: what the folders above it say of its rows (`user_id=7/`): column -> value as text, none if missing.
        notes: what there is to say of the listing; of the first file of an address.
        container: the zip that it is a member of, whose changes count.
    """

    name: str
    kind: str
    compression: str
    filesystem: Any
    path: str
    partitions: Mapping[str, str | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    container: tuple[Any, str] | None = None

    def read(self) -> bytes:
        """All of it, uncompressed; DataError if unreadable or corrupt."""
        return b"".join(self._blocks())

    def chunks(self) -> Iterator[bytes]:
        """Whole lines, about 64 MiB at a time, uncompressed; DataError if unreadable or corrupt."""
        rest: list[bytes] = []
        for block in self._blocks():
            lines, newline, tail = block.rpartition(b"\n")
            if newline:
                yield b"".join([*rest, lines, newline])
                rest = []
            rest.append(tail)
        if any(rest):
            yield b"".join(rest)

    def _blocks(self) -> Iterator[bytes]:
        before = self._state()
        try:
            with self.filesystem.open(self.path, "rb") as raw:
                stream = _uncompressed(raw, self.compression)
                some = False
                while block := stream.read(_CHUNK_BYTES):
                    some = True
                    yield block
                if self.compression and not some and not self._bytes():
                    raise EOFError("the file is empty")
        except Exception as error:  # every driver raises its own kinds, and every codec too
            # what the system says has a number, what a codec says has none
            if self.compression and not getattr(error, "errno", None):
                extension = PurePosixPath(self.name).suffix
                fix = "copy or compress it again"
                raise DataError(f"{self.name}: corrupt {extension} file ({error}); {fix}") from error
            raise DataError(f"{self.name}: cannot be read: {error}") from error
        if self._state() != before:
            raise DataError(f"{self.name}: changed while it was read; run again when nothing writes there any more")

    def _state(self) -> str:
        """What differs when somebody writes to the file or in its place."""
        filesystem, path = self.container or (self.filesystem, self.path)
        try:
            filesystem.invalidate_cache(filesystem._parent(path))
            info = filesystem.info(path)
        except FileNotFoundError as error:
            fix = "run again when nothing writes there any more"
            raise DataError(f"{self.name}: vanished before it was read to its end; {fix}") from error
        except Exception as error:  # every driver raises its own kinds
            raise DataError(f"{self.name}: cannot be read: {error}") from error
        return " ".join(str(info.get(key)) for key in _CHANGING)

    def _bytes(self) -> int | None:
        return self.filesystem.info(self.path).get("size")  # type: ignore[no-any-return]


def _uncompressed(raw: BinaryIO, compression: str) -> BinaryIO:
    if compression == "xz":
        return cast(BinaryIO, lzma.LZMAFile(raw))
    return cast(BinaryIO, pa.input_stream(raw, compression=compression)) if compression else raw


def read_files(uri: str) -> Iterator[File]:
    """Every file behind `uri`, ordered by path; a `.zip` stands for its members.

    In a folder, read with its subfolders, and behind a pattern, names that start with `.` or `_` (`_SUCCESS`) are
    skipped, and so are empty text files among others; the first file's notes say so.

    Raises:
        DataError: nothing there, no driver for the protocol, an unknown extension, or something that cannot be listed.
    """
    filesystem, found = _find(uri)
    files = [file for path in found.sizes for file in _files(filesystem, path, uri)]
    empty = [file for file in files if file.kind in _TEXT and not file.compression and found.sizes.get(file.path) == 0]
    if len(empty) == len(files):
        empty = []
    remarks = [found.remark()] if found.skipped else []
    if empty:
        remarks.append(f"skipped {len(empty)} empty files, such as {PurePosixPath(empty[0].path).name}")
    kept = [file for file in files if file not in empty]
    kept[0] = replace(kept[0], notes=tuple(remarks))
    yield from kept


def fingerprint(uri: str) -> str:
    """Text that changes when a file behind `uri` does: path and what the store says of it (size, time, checksum).

    Raises:
        DataError: nothing there, no driver for the protocol, no answer.
    """
    filesystem, found = _find(uri)
    try:
        return "\n".join(f"{without_password(path)} {_told(filesystem, path)}" for path in found.sizes)
    except Exception as error:  # every driver raises its own kinds
        raise DataError(f"{uri}: cannot be read: {error}") from error


def _told(filesystem: Any, path: str) -> Any:
    if isinstance(filesystem, LocalFileSystem):
        return filesystem.ukey(path)
    # of the web, ukey is the address alone; where it led to may hold a new signature each time
    return {key: value for key, value in sorted(filesystem.info(path).items()) if key not in ("name", "url")}


def _find(uri: str) -> tuple[Any, Found]:
    try:
        filesystem, path = open_store(uri, DataError)
        return filesystem, find(filesystem, path, uri)
    except DataError:
        raise
    except PermissionError as error:
        fix = f"let user {os.geteuid()} read it, or select other files with a pattern"
        raise DataError(f"{uri}: cannot be read: {error}; {fix}") from error
    except Exception as error:  # credentials, network, a damaged zip: every driver raises its own kinds
        raise DataError(f"{uri}: cannot be read: {error}") from error


def _files(filesystem: Any, path: str, uri: str) -> Iterator[File]:
    local = isinstance(filesystem, LocalFileSystem)
    name = without_password(path if local else filesystem.unstrip_protocol(path))
    # bytes of a file's name that are no text
    name = name.encode(errors="backslashreplace").decode()
    if _clean(path).lower().endswith(".zip"):
        for member_filesystem, member in members(filesystem, path, name, format_of):
            yield File(
                f"zip://{member}::{name}",
                *_format(member, member),
                member_filesystem,
                member,
                {},
                (),
                (filesystem, path),
            )
    else:
        yield File(name, *_format(_clean(path), name), filesystem, path, _partitions(path))


def _clean(path: str) -> str:
    """A path without what stands behind `?` in an address of the web."""
    return urlsplit(path).path if path.startswith(("http://", "https://")) else path


def _partitions(path: str) -> dict[str, str | None]:
    """Of folders named as Hive names them."""
    parts = [part.partition("=") for part in PurePosixPath(path).parent.parts]
    return {unquote(name): _hive(value) for name, equals, value in parts if name and equals}


def _hive(value: str) -> str | None:
    return None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)


def format_of(path: str) -> tuple[str, str] | None:
    """Kind and compression by a file's name; of one without extension (`part-00000`) by its folders'."""
    name = PurePosixPath(path.lower())
    for each in (name, *name.parents):
        if not each.suffix:
            continue
        compression = _COMPRESSIONS.get(each.suffix, "")
        kind = FORMATS.get((each.with_suffix("") if compression else each).suffix)
        return (kind, compression) if kind else None
    return None


def _format(path: str, name: str) -> tuple[str, str]:
    found = format_of(path)
    if found is None:
        fix = "Rename the file, or select files with a pattern"
        raise DataError(f"{name}: unknown extension; expected {_known()}. {fix}")
    return found


def _known() -> str:
    return f"{', '.join(FORMATS)}, plain or compressed ({', '.join(_COMPRESSIONS)}), or .zip with such files"
