"""Text without what nobody sees, and what it may hold."""

from __future__ import annotations

import ast
import json
from typing import NoReturn

import polars as pl

from components.prepare_data.table import Table
from sella_rec.data.errors import DataError

# control characters other than white space, soft hyphen, zero-width space, marks of direction, byte order mark
INVISIBLE = (
    r"\x00-\x08\x0E-\x1F\x7F-\x84\x86-\x9F\u{AD}\u{180E}\u{200B}\u{200E}\u{200F}"
    r"\u{202A}-\u{202E}\u{2060}-\u{206F}\u{FEFF}"
)
# joiners shape the letters around them, so they go only at the ends; fillers are letters without a shape
BLANK = rf"\s{INVISIBLE}\u{{34F}}\u{{115F}}\u{{1160}}\u{{200C}}\u{{200D}}\u{{2800}}\u{{3164}}\u{{FE0F}}\u{{FFA0}}"


def stripped(values: pl.Series) -> pl.Series:
    """Text without white space and invisible characters at both ends."""
    if not values.str.contains(rf"^[{BLANK}]|[{BLANK}]$").any():
        return values
    return values.str.replace_all(rf"^[{BLANK}]+|[{BLANK}]+$", "")


def wrong_type(table: Table, field: str, expected: str) -> NoReturn:
    """Raise DataError: no value of this column can be read."""
    where = f"{table.file}: column '{table.columns[field]}'"
    raise DataError(f"{where} contains {table.frame[field].dtype}; expected {expected}")


def literal(text: str) -> object:
    """The list or dictionary that JSON or Python reads in `text`, else the text."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text
