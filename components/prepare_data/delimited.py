"""CSV and its relatives: tables as text, with a separator between values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import polars as pl
import pyarrow as pa
import pyarrow.csv

from components.prepare_data.dialect import Dialect, TextSettings, find_dialect
from components.prepare_data.quotes import Quoting, find_quoting
from components.prepare_data.table import Table, integer_or_text, make_table, short
from components.prepare_data.text import to_utf8
from sella_rec.data.errors import DataError

# a row must fit into a block
_BLOCK_BYTES = 1 << 24
_RAGGED_COUNTED = 100_000


def read_delimited(file: str, data: bytes, columns: Mapping[str, str], settings: TextSettings) -> Iterator[Table]:
    """The table in `data`; in parts where its header is repeated, as in files put together.

    Raises:
        DataError: text that cannot be decoded, no header and no names, rows of unequal length, stray quotation marks.
    """
    data, notes = to_utf8(file, data, settings.encoding)
    dialect = find_dialect(file, data, columns, settings)
    names = dialect.names
    wanted = [name for name in dict.fromkeys(columns.values()) if name in names]
    for name in wanted:
        if names.count(name) > 1:
            raise DataError(f"{file}: more than one column '{name}'; rename or remove all but one")
    quoting = find_quoting(file, data, dialect.start, dialect.separator, dialect.width)
    frame = _parse(file, data, dialect, quoting, wanted)
    frame, empty = _without_empty_end(frame)
    notes = (*notes, *dialect.notes, *filter(None, (quoting.note, empty)))
    for first_row, part in _without_headers(frame, dialect.first_row):
        if first_row > dialect.first_row:
            notes = (f"the header is repeated in row {first_row - 1}, and was left out",)
        part = part.with_columns(integer_or_text(part[name]) for name in wanted)
        yield make_table(file, part, columns, names, first_row, notes)


def _parse(file: str, data: bytes, dialect: Dialect, quoting: Quoting, wanted: list[str]) -> pl.DataFrame:
    """The wanted columns as text; parsed by pyarrow, since polars takes rows with too few values."""
    delimiter = dialect.separator
    rows = pa.py_buffer(data).slice(dialect.start)
    if len(delimiter.encode()) > 1:
        delimiter, rows = _one_byte(file, data[dialect.start :], delimiter)
    ragged: list[pa.csv.InvalidRow] = []

    def skip(row: pa.csv.InvalidRow) -> str:
        if row.text.strip():
            ragged.append(row)
        return "skip" if len(ragged) < _RAGGED_COUNTED else "error"

    # columns are named by number: names may be double
    numbers = [str(dialect.names.index(name)) for name in wanted]
    read = pa.csv.ReadOptions(
        use_threads=False, block_size=_BLOCK_BYTES, column_names=list(map(str, range(dialect.width)))
    )
    parse = pa.csv.ParseOptions(
        delimiter=delimiter,
        quote_char=quoting.quote_char,
        escape_char=quoting.escape_char,
        double_quote=not quoting.escape_char,
        newlines_in_values=True,
        invalid_row_handler=skip,
    )
    convert = pa.csv.ConvertOptions(
        check_utf8=False, include_columns=numbers, column_types=dict.fromkeys(numbers, pa.large_string())
    )
    if not rows.size or not wanted:
        return pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))
    good = 0
    try:
        arrow = pa.csv.read_csv(pa.BufferReader(rows), read, parse, convert)
        good = arrow.num_rows
    except pa.ArrowInvalid as error:
        if not ragged:
            raise DataError(f"{file}: malformed CSV: {short(error)}; write the file again") from error
    if ragged:
        raise DataError(f"{file}: {_ragged(ragged, good, dialect)}")
    return pl.DataFrame(pl.from_arrow(arrow)).rename(dict(zip(numbers, wanted, strict=True)))


def _one_byte(file: str, data: bytes, separator: str) -> tuple[str, pa.Buffer]:
    for byte in (b"\x1f", b"\x1e", b"\x1d", b"\x01"):
        if byte not in data:
            return byte.decode(), pa.py_buffer(data.replace(separator.encode(), byte))
    raise DataError(f"{file}: contains the control characters 1 and 29 to 31; remove them")


def _ragged(rows: list[pa.csv.InvalidRow], good: int, dialect: Dialect) -> str:
    first = rows[0]
    text = first.text if len(dialect.separator) == 1 else re.sub("[\x1d-\x1f\x01]", dialect.separator, first.text)
    many = f"{len(rows)}{' or more' if len(rows) == _RAGGED_COUNTED else ''}"
    found = f"row {first.number + dialect.first_row - 1} has {first.actual_columns}: {text[:200]!r}"
    what = f"malformed CSV: {dialect.width} values expected in a row, but {found}; rows like it: {many}"
    if f'{dialect.separator} "' in text:
        return f"{what}; remove the space before each quotation mark"
    fix = f"put values that contain {dialect.separator!r} in quotation marks, or set data.separator"
    if not good and dialect.first_row == 2:
        fix += "; if the first column has no name in the header, add one (R: write.csv(..., row.names = FALSE))"
    return f"{what}; {fix}"


def _without_empty_end(frame: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Without rows of separators alone, which spreadsheets write at the end, and a remark."""
    if not frame.width or any(frame.tail(1).row(0) if frame.height else "1"):
        return frame, ""
    filled = frame.select(pl.any_horizontal(pl.all() != "")).to_series().arg_true()
    kept = filled[-1] + 1 if len(filled) else 0
    return frame.head(kept), f"{frame.height - kept} rows at the end hold none of the wanted values, and were left out"


def _without_headers(frame: pl.DataFrame, first_row: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """The parts between rows that repeat the header, each with the number of its first row."""
    names = frame.columns
    repeated = (
        frame.select(pl.all_horizontal(pl.col(name) == name for name in names[:1])).to_series() if names else None
    )
    if repeated is None or not repeated.any():
        yield first_row, frame
        return
    is_header = frame.select(pl.all_horizontal(pl.col(name) == name for name in names)).to_series()
    start = 0
    for end in [*is_header.arg_true().to_list(), frame.height]:
        yield first_row + start, frame[start:end]
        start = end + 1
