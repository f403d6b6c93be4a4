"""One file's rows under our column names, and the errors that name its file, row and column."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from sella_rec.data.errors import DataError


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
        """Raise DataError for the first row where the boolean `bad` is true."""
        row = bad.arg_max()
        if row is None or not bad[row]:
            return
        where = f"{self.file}, row {self.first_row + row}, column '{self.columns[field]}'"
        raise DataError(f"{where}: {rule} (got {self.frame[field][row]!r})")

    def _fix(self, field: str) -> str:
        taken = set(self.columns.values())
        flat = {_flat(name): name for name in self.present if name not in taken}
        # movieId for item_id has a likeness of 0.46
        near = difflib.get_close_matches(_flat(self.columns[field]), flat, n=1, cutoff=0.4)
        name = flat[near[0]] if near else "NAME"
        hint = f"the closest is '{name}'; " if near else ""
        there = ", ".join(f"'{column}'" for column in self.present)
        return f"{hint}use --set data.columns.{field}={name} (columns: {there})"


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
    """Give `frame`'s columns our names; DataError if one of them holds lists or structs."""
    wanted = {field: name for field, name in columns.items() if name in present}
    frame = frame.select(pl.col(name).alias(field) for field, name in wanted.items())
    for field, dtype in frame.schema.items():
        if dtype.is_nested():
            raise DataError(f"{file}: column '{columns[field]}' contains {dtype}; expected one value per row")
    return Table(file, frame, columns, present, first_row, notes)
