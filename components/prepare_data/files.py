"""From a file, folder, glob or fsspec URI to the uncompressed bytes of each file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from components.prepare_data.errors import DataError

FORMATS = {".csv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet", ".pq": "parquet"}


def _unzstd(data: bytes) -> bytes:
    return bytes(pa.input_stream(BytesIO(data), compression="zstd").read())


DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".zst": _unzstd,
    ".zstd": _unzstd,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}


def read_files(uri: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield (path, format, uncompressed bytes) of every file behind `uri`, ordered by path.

    Formats are the values of `FORMATS`. In a folder, read with its subfolders, names that start with `.` or `_`
    (`_SUCCESS`) are skipped.

    Raises:
        DataError: nothing there, no driver for the protocol, an unknown extension, unreadable or corrupt file.
    """
    filesystem, paths = _find(uri)
    local = isinstance(filesystem, LocalFileSystem)
    names = paths if local else [filesystem.unstrip_protocol(path) for path in paths]
    formats = [_format(name) for name in names]
    for path, name, (kind, compression) in zip(paths, names, formats, strict=True):
        try:
            data = filesystem.cat_file(path)
        except Exception as error:  # every driver raises its own kinds
            raise DataError(f"{name}: cannot be read: {error}") from error
        yield name, kind, _decompress(data, compression, name)


def fingerprint(uri: str) -> str:
    """Text that changes when a file behind `uri` does: path and what the store tells of it (size, time, checksum).

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
        filesystem, path = url_to_fs(uri)
    except ImportError as error:
        raise DataError(f"{uri}: the driver for this kind of address is not installed: {error} (with pip)") from error
    except ValueError as error:
        raise DataError(f"{uri}: {error}; give a path or an fsspec URI such as s3://bucket/folder") from error
    except OSError as error:
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
            raise DataError(f"{uri}: the folder holds no files; expected {_known()}")
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
    compression = name.suffix if name.suffix in DECOMPRESS else ""
    kind = FORMATS.get((name.with_suffix("") if compression else name).suffix)
    if kind is None:
        mend = "Rename it, or name the wanted files by a pattern"
        raise DataError(f"{path}: unknown extension; expected {_known()}. {mend}")
    return kind, compression


def _known() -> str:
    return f"{', '.join(FORMATS)}, each plain or with {', '.join(DECOMPRESS)} behind it"


def _decompress(data: bytes, compression: str, path: str) -> bytes:
    if not compression:
        return data
    try:
        return DECOMPRESS[compression](data)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: corrupt {compression} file ({error}); copy or compress it again") from error
