"""A JSON array of objects as JSON lines."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator

from sella_rec.data.errors import DataError

_PIECE_BYTES = 1 << 24
_BETWEEN = re.compile(r"[\s,]*")


def array_lines(file: str, data: bytes) -> Iterator[bytes]:
    """The objects in `data`, an array in UTF-8, each as it is written but on one line; some MB at a time.

    Raises:
        DataError: malformed or cut off, or a member that is no object.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    at = data.index(b"[") + 1
    text, row, closed = "", 1, False
    while at < len(data):
        text += decoder.decode(data[at : at + _PIECE_BYTES])
        at += _PIECE_BYTES
        lines, text, closed = _objects(file, text, row, at >= len(data))
        row += len(lines)
        if lines:
            yield "\n".join([*lines, ""]).encode()
        if closed:
            break
    rest = data[at:].strip() if closed else b""
    if not closed or text.strip() or rest:
        what = "more stands behind the array" if closed else "the array is not closed; the file may be cut off"
        raise DataError(f"{file}: malformed JSON after row {row - 1}: {what}")


def _objects(file: str, text: str, row: int, last: bool) -> tuple[list[str], str, bool]:
    """Objects on one line each, the text behind them, and whether the array is closed there."""
    decode = json.JSONDecoder().raw_decode
    lines: list[str] = []
    start = 0
    while True:
        start = _BETWEEN.match(text, start).end()  # type: ignore[union-attr]
        if text.startswith("]", start):
            return lines, text[start + 1 :], True
        if start == len(text):
            return lines, "", False
        where = f"{file}, row {row + len(lines)}"
        got = text[start : start + 80]
        try:
            value, end = decode(text, start)
        except RecursionError as error:
            raise DataError(f"{where}: malformed JSON: nested too deeply (got {got})") from error
        except json.JSONDecodeError as error:
            if last:
                raise DataError(f"{where}: malformed JSON: {error.msg} (got {got})") from error
            return lines, text[start:], False
        if not isinstance(value, dict):
            raise DataError(f"{where}: expected a JSON object, got {got}")
        lines.append(text[start:end].replace("\n", " ").replace("\r", " "))
        start = end
