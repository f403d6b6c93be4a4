"""One file's rows under our column names, and the errors that name its file, row and column."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from sella_rec.data.errors import DataError

_SHOWN = 5


@dataclass(frozen=True)
class Table:
    """One file's rows, or the next of them: JSON lines come in parts, since they may be larger than memory.

    Attributes:
        file: what messages call it.
        frame: the wanted columns that the file has, under our names (`user_id`, ...), as the file types them.
        columns: our name -> the name in the file, for every wanted column.
        present: every column name in the file.
        first_row: number of the first row in messages; from 2 in CSV, where the header is row 1 as in a spreadsheet.
        notes: remarks on how the file was read, such as a detected encoding.
    """

    file: str
    frame: pl.DataFrame
    columns: Mapping[str, str]
    present: list[str]
    first_row: int
    notes: tuple[str, ...] = ()

    def require(self, *fields: str) -> None:
        """Raise DataError for the first of `fields` that the file does not have."""
        for field in fields:
            if field not in self.frame.columns:
                raise DataError(f"{self.file}: no column '{self.columns[field]}'; {self._fix(field)}")

    def require_any(self, *fields: str) -> str:
        """The first of `fields` that the file has; DataError if none."""
        for field in fields:
            if field in self.frame.columns:
                return field
        names = " nor ".join(f"'{self.columns[field]}'" for field in fields)
        raise DataError(f"{self.file}: neither {names} is a column; {self._fix(fields[-1])}")

    def reject(self, field: str, bad: pl.Series, rule: str) -> None:
        """Raise DataError for the rows where the boolean `bad` is true; it shows up to five of them."""
        if not bad.any():
            return
        rows = bad.fill_null(False).arg_true()
        first, *more = ((self.first_row + row, repr(self.frame[field][row])) for row in rows.head(_SHOWN))
        where = f"{self.file}, row {first[0]}, column '{self.columns[field]}'"
        also = [f"row {row} ({value})" for row, value in more]
        if len(rows) > _SHOWN:
            also.append(f"{len(rows) - _SHOWN:,} more up to row {self.first_row + rows[-1]}")
        others = f"; also {', '.join(also)}" if also else ""
        raise DataError(f"{where}: {rule} (got {first[1]}){others}")

    def _fix(self, field: str) -> str:
        taken = set(self.columns.values())
        flat = {_flat(name): name for name in self.present if name not in taken}
        # movieId for item_id has a likeness of 0.46
        near = difflib.get_close_matches(_flat(self.columns[field]), flat, n=1, cutoff=0.4)
        # of one column left, that is the likeliest
        found = [flat[key] for key in near] or (list(flat.values()) if len(flat) == 1 else [])
        name = found[0] if found else "NAME"
        hint = f"the {'closest' if near else 'only other one'} is '{name}'; " if found else ""
        there = ", ".join(f"'{column}'" for column in self.present)
        return f"{hint}use --set {shlex.quote(f'data.columns.{field}={name}')} (columns: {there})"


def _flat(name: str) -> str:
    return name.lower().replace("_", "").replace(" ", "")


def make_table(
    file: str,
    frame: pl.DataFrame,
    columns: Mapping[str, str],
    present: list[str],
    first_row: int = 1,
    notes: tuple[str, ...] = (),
) -> Table:
    """Give `frame`'s columns our names and plain types; DataError if one holds lists or structs.

    Lists as titles are let through.
    """
    wanted = {field: name for field, name in columns.items() if name in present}
    frame = frame.select(pl.col(name).alias(field) for field, name in wanted.items())
    table = Table(file, frame, columns, present, first_row, notes)
    for field, dtype in frame.schema.items():
        if dtype.is_nested() and not (field == "title" and _is_flat_list(dtype)):
            got = str(frame[field].head(1).to_list())[1:-1][:80]
            where = f"{file}, row {first_row}, column '{columns[field]}'"
            raise DataError(f"{where}: contains {dtype}; expected one value per row (got {got})")
    return replace(table, frame=frame.with_columns(_plain(table, field) for field in frame.columns))


def _is_flat_list(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.List | pl.Array) and not dtype.inner.is_nested()


def _plain(table: Table, field: str) -> pl.Series:
    """Text and decimal numbers as every format has them, however this one stores them."""
    values = table.frame[field]
    if values.dtype in (pl.Categorical, pl.Enum, pl.Null):
        return values.cast(pl.String)
    if values.dtype == pl.Binary:
        try:
            return values.cast(pl.String)
        except pl.exceptions.ComputeError:
            bad = pl.Series([value is not None and not _is_text(value) for value in values])
            fix = "write this column as text, for example in hexadecimal"
            table.reject(field, bad, f"holds bytes that are not UTF-8 text; {fix}")
    if isinstance(values.dtype, pl.Decimal):
        return integer_or_text(values.cast(pl.String))
    return values


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def integer_or_text(values: pl.Series) -> pl.Series:
    """Text as int64 where that loses nothing in any row: `007` and `1.0` stay text."""
    numbers = values.cast(pl.Int64, strict=False)
    return numbers if numbers.cast(pl.String).eq_missing(values).all() else values


def short(error: Exception) -> str:
    """The first line of a library's message."""
    return str(error).split("\n")[0][:200]
