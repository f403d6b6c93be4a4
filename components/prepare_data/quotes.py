"""Quotation marks in a text table: doubled, escaped, plain text, or not closed and so an error."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper

from sella_rec.data.errors import DataError

# a value of more lines is looked at: descriptions have as many, rows that a stray quotation mark swallows are rows
_LINES = 20


@dataclass(frozen=True)
class Quoting:
    """How pyarrow's parser has to take quotation marks: its options of these names, and a remark.

    Attributes:
        quote_char: `"`, or False where quotation marks are text.
        escape_char: a backslash, or False where quotation marks are doubled.
    """

    quote_char: str | bool = '"'
    escape_char: str | bool = False
    note: str = ""


def find_quoting(file: str, data: bytes, start: int, separator: str, width: int) -> Quoting:
    """Check every quotation mark from byte `start` on; `width` is the number of values in a row.

    Raises:
        DataError: one is not closed, or not doubled inside a value, with its line.
    """
    if len(separator) > 1:
        return Quoting(quote_char=False)
    if data.find(b'"', start) < 0:
        return Quoting()
    problem = _problem(data, start, separator, width, escaped=False)
    if not problem:
        return Quoting()
    if rb"\"" in data and not _problem(data, start, separator, width, escaped=True):
        return Quoting(escape_char="\\", note="quotation marks are escaped by a backslash")
    if separator in "\t|" and b'"' not in data[:start]:
        return Quoting(quote_char=False, note=f"quotation marks were read as text ({problem})")
    raise DataError(f'{file}: malformed CSV: {problem}; double it inside a value ("") or remove it')


def _problem(data: bytes, start: int, separator: str, width: int, escaped: bool) -> str:
    csv.field_size_limit(sys.maxsize)
    file = BytesIO(data)
    file.seek(start)
    text = TextIOWrapper(file, "utf-8", newline="")
    escape = "\\" if escaped else None
    reader = csv.reader(text, delimiter=separator, strict=True, escapechar=escape, doublequote=not escaped)
    above = len(data[:start].splitlines())
    line = 0
    try:
        for row in reader:
            if reader.line_num > line + _LINES and (swallowed := _swallowed(row, separator, width)):
                return f"line {above + line + 1}: a quotation mark is not closed, which swallows {swallowed} rows"
            line = reader.line_num
    except csv.Error as error:
        return f"line {above + line + 1}: a quotation mark is not closed or not doubled ({error})"
    return ""


def _swallowed(row: list[str], separator: str, width: int) -> int:
    for value in row:
        inner = value.splitlines()[1:-1]
        rows = sum(each.count(separator) == width - 1 for each in inner)
        if len(inner) >= _LINES - 1 and 2 * rows >= len(inner):
            return rows
    return 0
