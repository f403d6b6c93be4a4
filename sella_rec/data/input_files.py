"""From a file, folder, glob or fsspec URI to the uncompressed bytes of each file."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast
from zipfile import BadZipFile

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from sella_rec.data.errors import DataError
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
}
# pyarrow's names; it decompresses in C++, outside Python's lock
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2", ".xz": "xz"}
_CHUNK_BYTES = 1 << 26


@dataclass(frozen=True)
class File:
    """One file behind an address.

    Attributes:
        name: what messages call it.
        kind: a value of `FORMATS`.
        compression: a value of `_COMPRESSIONS`, or empty.
    """

    name: str
    kind: str
    compression: str
    filesystem: Any
    path: str

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
        try:
            with self.filesystem.open(self.path, "rb") as raw:
                stream = _uncompressed(raw, self.compression)
                while block := stream.read(_CHUNK_BYTES):
                    yield block
        except Exception as error:  # every driver raises its own kinds, and every codec too
            if self.compression:
                extension = PurePosixPath(self.name).suffix
                fix = "copy or compress it again"
                raise DataError(f"{self.name}: corrupt {extension} file ({error}); {fix}") from error
            raise DataError(f"{self.name}: cannot be read: {error}") from error


def _uncompressed(raw: BinaryIO, compression: str) -> BinaryIO:
    if compression == "xz":
        return cast(BinaryIO, lzma.LZMAFile(raw))
    return cast(BinaryIO, pa.input_stream(raw, compression=compression)) if compression else raw


def read_files(uri: str) -> Iterator[File]:
    """Every file behind `uri`, ordered by path.

    In a folder, read with its subfolders, names that start with `.` or `_` (`_SUCCESS`) are skipped.

    Raises:
        DataError: nothing there, no driver for the protocol, or an unknown extension.
    """
    filesystem, paths = _find(uri)
    local = isinstance(filesystem, LocalFileSystem)
    names = paths if local else [filesystem.unstrip_protocol(path) for path in paths]
    formats = [_format(name) for name in names]
    for path, name, (kind, compression) in zip(paths, names, formats, strict=True):
        yield File(name, kind, compression, filesystem, path)


def fingerprint(uri: str) -> str:
    """Text that changes when a file behind `uri` does: path and what the store says of it (size, time, checksum).

    Raises:
        DataError: nothing there, no driver for the protocol, no answer.
    """
    filesystem, paths = _find(uri)
    try:
        return "\n".join(f"{path} {filesystem.ukey(path)}" for path in paths)
    except Exception as error:  # every driver raises its own kinds
        raise DataError(f"{uri}: cannot be read: {error}") from error


def _find(uri: str) -> tuple[Any, list[str]]:
    try:
        filesystem, path = open_store(uri, DataError)
    except (OSError, BadZipFile) as error:
        raise DataError(f"{uri}: cannot be read: {error}") from error
    try:
        return filesystem, _list(filesystem, path, uri)
    except DataError:
        raise
    except Exception as error:  # credentials, network, permissions: every driver raises its own kinds
        raise DataError(f"{uri}: cannot be read: {error}") from error


def _list(filesystem: Any, path: str, uri: str) -> list[str]:
    if filesystem.isfile(path):
        return [path]
    if filesystem.isdir(path):
        found = [file for file in filesystem.find(path) if not _hidden(file, path)]
        if not found:
            raise DataError(f"{uri}: the folder contains no files; expected {_known()}")
        return sorted(found)
    found = [file for file in filesystem.glob(path) if filesystem.isfile(file)]
    if not found:
        raise DataError(f"{uri}: no such file or folder, and no file matches it as a pattern")
    return sorted(found)


def _hidden(file: str, folder: str) -> bool:
    inside = file.removeprefix(folder).strip("/")
    return any(part.startswith((".", "_")) for part in inside.split("/"))


def _format(path: str) -> tuple[str, str]:
    name = PurePosixPath(path.lower())
    compression = _COMPRESSIONS.get(name.suffix, "")
    kind = FORMATS.get((name.with_suffix("") if compression else name).suffix)
    if kind is None:
        fix = "Rename the file, or select files with a pattern"
        raise DataError(f"{path}: unknown extension; expected {_known()}. {fix}")
    return kind, compression


def _known() -> str:
    return f"{', '.join(FORMATS)}, plain or compressed ({', '.join(_COMPRESSIONS)})"
