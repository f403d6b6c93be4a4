"""Text files' bytes as UTF-8, from whatever encoding they were written in."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from charset_normalizer import from_bytes

from sella_rec.data.errors import DataError

BYTE_ORDER_MARK = codecs.BOM_UTF8
_WIDE_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_BINARY = {
    b"PK\x03\x04": "a zip file or an Excel workbook; name it .zip, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV",
    b"PAR1": "a Parquet file; name it .parquet",
    b"ARROW1": "an Arrow file; name it .arrow",
    b"\x1f\x8b": "compressed by gzip; add .gz to its name",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; add .zst to its name",
    b"BZh": "compressed by bzip2; add .bz2 to its name",
    b"\xfd7zXZ": "compressed by xz; add .xz to its name",
    b"%PDF": "a PDF; give a table",
    b"SQLite format 3": "an SQLite database; export the table as CSV",
}
# few, since short titles fit many: cp1250 and cp1254 cannot be told from cp1252
_ENCODINGS = ["cp1252", "gb18030", "cp1251", "cp1253", "cp932", "euc_jp", "cp949", "big5"]
# accented letters, quotation marks, dashes: what stands alone in western text; the rest leads a pair in Asian text
_WESTERN = frozenset(
    [*range(0xC0, 0x100), 0x85, *range(0x91, 0x98), 0xA0, 0xA1, 0xA9, 0xAB, 0xAE, 0xB0, 0xBB, 0xBD, 0xBF]
)
_HIGH = re.compile(rb"[\x80-\xff]")
_SLICE = 1 << 24
_SAMPLED_LINES = 500
# of the lines with special characters; below it, a line that is UTF-8 is one by accident
_UTF8_SHARE = 0.2


def to_utf8(file: str, data: bytes, encoding: str | None, first_line: int = 1) -> tuple[bytes, tuple[str, ...]]:
    """`data` as UTF-8 without byte order marks, and remarks on how it was read.

    Args:
        encoding: of files without a byte order mark; none: UTF-8 where the file is that, else detected.
        first_line: number of the first line of `data` in messages.

    Raises:
        DataError: no text, bytes that are not of the encoding, or an encoding that cannot be told.
    """
    binary = next((what for mark, what in _BINARY.items() if data.startswith(mark)), None)
    if binary and b"\0" in data[:4096]:
        raise DataError(f"{file}: is not text but {binary}")
    wide = next((name for mark, name in _WIDE_MARKS.items() if data.startswith(mark)), None)
    found = wide or (_wide_without_mark(data) if encoding is None else None)
    notes: tuple[str, ...] = ()
    if found:
        data, notes = _decode(file, data, found, first_line), (f"read as {found}",)
    elif encoding is not None and not data.startswith(BYTE_ORDER_MARK):
        if not data.isascii() and codecs.lookup(encoding).name != "utf-8" and _is_utf8(data):
            notes = (f"is valid UTF-8, but read as {encoding}, since data.encoding says so",)
        data = _decode(file, data, encoding, first_line)
    elif not data.isascii() and not _is_utf8(data):
        data, note = _detect(file, data, first_line)
        notes = (note,)
    # files put together have marks inside, too
    return data if data.isascii() else data.replace(BYTE_ORDER_MARK, b""), notes


def is_wide(data: bytes, encoding: str | None) -> bool:
    """Whether a newline is more than one byte, so that lines can be cut only after decoding."""
    if any(data.startswith(mark) for mark in _WIDE_MARKS):
        return True
    return "\n".encode(encoding)[-1:] != b"\n" if encoding else bool(_wide_without_mark(data))


def _wide_without_mark(data: bytes) -> str | None:
    head = data[:4096]
    even, odd = head[::2].count(0), head[1::2].count(0)
    few, many = sorted((even, odd))
    if many * 8 < len(head) or few * 10 > many:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _is_utf8(data: bytes) -> bool:
    offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(data)]).cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def _decode(file: str, data: bytes, encoding: str, first_line: int) -> bytes:
    decoder = codecs.getincrementaldecoder(encoding)()
    parts: list[bytes] = []
    for at in range(0, len(data), _SLICE):
        try:
            text = decoder.decode(data[at : at + _SLICE], final=at + _SLICE >= len(data))
        except UnicodeError as error:
            where, what = first_line + sum(part.count(b"\n") for part in parts), str(error)
            if isinstance(error, UnicodeDecodeError):
                where += error.object[: error.start].decode(encoding, "ignore").count("\n")
                what = f"{error.object[error.start : error.end]!r} is not {encoding}"
            fix = "fix the line, or set data.encoding to the encoding that the file was written in"
            raise DataError(f"{file}, line {where}: {what}; {fix}") from error
        parts.append(text.encode("utf-8", "replace"))
    return b"".join(parts)


def _detect(file: str, data: bytes, first_line: int) -> tuple[bytes, str]:
    first = _first_bad(data)
    example = data[data.rfind(b"\n", 0, first) + 1 :][:200].split(b"\n")[0].strip()
    line = first_line + data.count(b"\n", 0, first)
    starts = (0, first, len(data) // 2, len(data) * 3 // 4)
    lines = list(dict.fromkeys(each for start in starts for each in _special_lines(data, start)))
    if sum(map(_is_utf8, lines)) >= _UTF8_SHARE * len(lines):
        text, bad = _mend(data)
        done = f"{bad} bytes are not UTF-8, while others are, and were read as cp1252"
        return text, f"{done} (first in line {line}: {_mend(example)[0].decode()!r})"
    encoding = _encoding_of(lines)
    if encoding is None:
        fix = "set data.encoding, such as --set data.encoding=cp1252 (cp1250 Polish, cp1251 Russian, cp1254 Turkish)"
        raise DataError(f"{file}, line {line}: the text is not UTF-8, and its encoding is not clear; {fix}")
    try:
        text = _decode(file, data, encoding, first_line)
    except DataError:
        if encoding != "cp1252":
            raise
        # five bytes are not of cp1252; they are control characters in latin-1
        encoding, text = "latin-1", _decode(file, data, "latin-1", first_line)
    shown = f"line {line}: {example.decode(encoding, 'ignore')!r}"
    return text, f"is not UTF-8; read as {encoding} ({shown}); if that is wrong, set data.encoding"


def _encoding_of(lines: list[bytes]) -> str | None:
    sample = b"\n".join(lines)[: 1 << 16]
    runs = re.findall(rb"[\x80-\xff]+", sample)
    alone = [run[0] for run in runs if len(run) == 1]
    if 2 * len(alone) >= len(runs) and sum(byte in _WESTERN for byte in alone) >= 0.75 * len(alone):
        return "cp1252"
    # a few letters fit too many encodings
    best = from_bytes(sample, cp_isolation=_ENCODINGS).best() if sum(map(len, runs)) > 7 else None
    return best.encoding if best else None


def _special_lines(data: bytes, start: int) -> Iterator[bytes]:
    """Lines with a byte above 127, the first from `start` on."""
    for _ in range(_SAMPLED_LINES):
        found = _HIGH.search(data, start)
        if found is None:
            return
        end = data.find(b"\n", found.start())
        start = len(data) if end < 0 else end
        yield data[data.rfind(b"\n", 0, found.start()) + 1 : start]


def _first_bad(data: bytes) -> int:
    at = 0
    while True:
        try:
            at += codecs.utf_8_decode(data[at : at + _SLICE], "strict", False)[1]
        except UnicodeDecodeError as error:
            return at + error.start
        if at + 4 > len(data):
            return at


def _mend(data: bytes) -> tuple[bytes, int]:
    """UTF-8 where `data` is that, its other bytes as cp1252, and how many those are."""
    parts: list[bytes] = []
    bad = at = 0
    while at < len(data):
        piece = data[at : at + (1 << 16)]
        try:
            used = codecs.utf_8_decode(piece, "strict", at + len(piece) >= len(data))[1]
            parts.append(piece[:used])
        except UnicodeDecodeError as error:
            used = error.start + 1
            parts += [piece[: error.start], piece[error.start : used].decode("cp1252", "replace").encode()]
            bad += 1
        at += used
    return b"".join(parts), bad
