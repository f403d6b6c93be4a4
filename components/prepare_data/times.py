"""Times of interactions as Unix seconds, whatever they are written as: one unit for a column, over all its files."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NoReturn

import polars as pl

from components.prepare_data.changes import Changes
from components.prepare_data.dates import fitting_formats, format_seconds, iso_seconds, set_format
from components.prepare_data.missing import Missing
from components.prepare_data.plain import plain, stripped, wrong_type
from components.prepare_data.table import Table
from components.prepare_data.units import RECOGNIZED_FROM, UNITS, Unit, at, inside, recognized, to_seconds, tomorrow
from sella_rec.config import DataConfig
from sella_rec.data.errors import DataError

_UNIT_NAMES = {
    "s": "Unix seconds",
    "ms": "Unix milliseconds",
    "us": "Unix microseconds",
    "ns": "Unix nanoseconds",
    "days": "days since 1970",
    "excel": "a spreadsheet's days",
    "year": "years",
    "date": "dates written as numbers (20240531)",
}
# seconds that are taken for milliseconds end in January 1970
_FIRST = at(1971)
# what a user's own unit or format may give
_ANY_FIRST, _ANY_LAST = at(1900), at(2100)
_SET = "--set data.columns.timestamp_unit"


class Times:
    """Reads the column `timestamp` of one table after the other; keeps its unit, and the first and last time."""

    def __init__(self, config: DataConfig, missing: Missing) -> None:
        self._missing = missing
        self._format = config.columns.timestamp_format
        self._unit: Unit | None = config.columns.timestamp_unit
        self._own = self._unit is not None or self._format is not None
        self._from, self._until = config.window_from, config.window_until
        self._unit_from = ""
        self._kinds: dict[str, None] = {}
        self._files: dict[str, None] = {}
        self._extent: list[int] = []

    def seconds(self, table: Table, changes: Changes) -> pl.Series:
        """Unix seconds, int64, fractions cut off, null where missing; times without a zone are taken as UTC.

        Numbers are read in the unit that puts most of them between 1995 and tomorrow.

        Raises:
            DataError: a missing value, one that is no time, another unit than before, or a time that cannot be:
                outside 1971 to tomorrow, unless the window's setting or the user's unit or format decides.
        """
        values = self._missing.nulls(table, "timestamp", plain(table, "timestamp"), changes)
        if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
            zone = getattr(values.dtype, "time_zone", None)
            seconds = values.cast(pl.Datetime("us", zone), strict=False).dt.epoch("s")
            self._kinds["typed times"] = None
        elif values.dtype == pl.String or values.dtype.is_numeric():
            seconds = self._formatted(values) if self._format else self._read(table, values)
        else:
            wrong_type(table, "timestamp", "numbers, text or times")
        self._reject_unread(table, values, seconds)
        self._reject_impossible(table, values, seconds)
        self._extent = [second for second in (*self._extent, seconds.min(), seconds.max()) if isinstance(second, int)]
        self._extent = [min(self._extent), max(self._extent)] if self._extent else []
        self._files[table.file] = None
        return seconds

    def tell(self, changes: Changes) -> None:
        """Say for the report how the times were read, and the first and last of them."""
        if self._extent:
            first, last = map(_day, self._extent)
            files = f" in {len(self._files)} files" if len(self._files) > 1 else ""
            changes.note(next(iter(self._files)), f"times{files}: {', '.join(self._kinds)}; from {first} to {last}")

    def _formatted(self, values: pl.Series) -> pl.Series:
        assert self._format is not None
        self._kinds[f"text as {self._format}"] = None
        return format_seconds(stripped(values.cast(pl.String)), self._format)

    def _read(self, table: Table, values: pl.Series) -> pl.Series:
        whole, real = _numbers(values)
        seconds = pl.Series("timestamp", [None], dtype=pl.Int64).new_from_index(0, len(values))
        if whole.count() or real.count():
            unit = self._unit_of(table, whole, real)
            self._kinds[_UNIT_NAMES[unit] + ("" if self._own else " (recognized)")] = None
            seconds = to_seconds(whole, unit).zip_with(whole.is_not_null(), to_seconds(real, unit))
        if values.dtype == pl.String and whole.count() + real.count() < values.count():
            dates = iso_seconds(stripped(values))
            if dates.count():
                self._kinds["dates"] = None
            seconds = seconds.zip_with(seconds.is_not_null(), dates)
        return seconds

    def _unit_of(self, table: Table, whole: pl.Series, real: pl.Series) -> Unit:
        if self._own and self._unit:
            return self._unit
        numbers = _together(whole, real)
        unit = recognized(numbers.drop_nulls())
        if self._unit is None:
            self._unit, self._unit_from = unit or _unknown_unit(table, numbers), table.file
        elif unit not in (None, self._unit):
            column = f"column '{table.columns['timestamp']}'"
            earlier = f"{_UNIT_NAMES[self._unit]} in {self._unit_from}"
            fix = "write all files in one unit"
            raise DataError(f"{table.file}: {column} contains {_UNIT_NAMES[unit]}, but {earlier}; {fix}")
        return self._unit

    def _reject_unread(self, table: Table, values: pl.Series, seconds: pl.Series) -> None:
        bad = seconds.is_null() & values.is_not_null()
        if not bad.any():
            return
        rule = "not a time"
        if self._format:
            rule = f"not a time as data.columns.timestamp_format={self._format} says"
        elif self._own and values.dtype.is_numeric():
            rule = f"not a time in data.columns.timestamp_unit={self._unit}"
        formats = fitting_formats(stripped(values.cast(pl.String)), _FIRST, tomorrow())
        fix = " or ".join(map(set_format, formats[:2]))
        other = (
            "expected a Unix time or ISO 8601, such as 2024-05-31T12:00:00Z, or what data.columns.timestamp_format says"
        )
        table.reject("timestamp", bad, f"{rule}; {fix or other}")

    def _reject_impossible(self, table: Table, values: pl.Series, seconds: pl.Series) -> None:
        first, last = (_ANY_FIRST, _ANY_LAST) if self._own else (_FIRST, tomorrow())
        early, late = (seconds < first).fill_null(False), (seconds >= last).fill_null(False)
        if not (early.any() or late.any()):
            return
        if values.dtype.is_numeric() or values.dtype == pl.String:
            self._reject_other_units(table, _together(*_numbers(values)), early | late, seconds)
        if self._own:
            table.reject(
                "timestamp", early | late, f"{_day(seconds.filter(early | late)[0])}: no time from 1900 to 2100"
            )
        if self._from is None and early.any():
            fix = "window_from=1900-01-01 takes them" if early.all() else "window_from=1971-01-01 drops such rows"
            table.reject("timestamp", early, f"{_day(seconds.filter(early)[0])} is before 1971; --set data.{fix}")
        if self._until is None and late.any():
            end = "2100-01-01" if late.all() else _day(tomorrow())
            fix = f"window_until={end} {'takes' if late.all() else 'drops'} such rows"
            table.reject("timestamp", late, f"{_day(seconds.filter(late)[0])} is in the future; --set data.{fix}")

    def _reject_other_units(self, table: Table, numbers: pl.Series, bad: pl.Series, seconds: pl.Series) -> None:
        """DataError for impossible times that another unit makes possible: no rule on rows should hide them."""
        for unit in UNITS:
            other = bad & inside(numbers, unit, RECOGNIZED_FROM, tomorrow())
            if unit in ("days", self._unit) or not other.any():
                continue
            day = _day(seconds.filter(other)[0])
            mine = _UNIT_NAMES[self._unit] if self._unit else ""
            fix = f"{_SET}={unit}" if self._own and other.sum() * 2 > numbers.count() else "write all rows in one unit"
            table.reject("timestamp", other, f"{day} in {mine}, plausible in {_UNIT_NAMES[unit]}; {fix}")


def _unknown_unit(table: Table, numbers: pl.Series) -> NoReturn:
    """DataError: most of `numbers` are implausible in every unit; names the unit that would take them."""
    known = numbers.drop_nulls()
    plausible = {unit: inside(known, unit, RECOGNIZED_FROM, tomorrow()) for unit in UNITS}
    found = [unit for unit, rows in plausible.items() if rows.any()]
    rule = "most of the times are outside 1995 to tomorrow in every unit"
    if pl.DataFrame(plausible).select(pl.any_horizontal(pl.all()).mean()).item() > 0.5 and len(found) > 1:
        rule = f"the column contains times in {' and '.join(_UNIT_NAMES[unit] for unit in found)}; write it in one unit"
        table.reject("timestamp", numbers.is_not_null(), rule)
    takes = [unit for unit in UNITS if inside(known, unit, _ANY_FIRST, _ANY_LAST).all()]
    units = [unit for unit in found if unit in takes] or takes
    fix = f"if they are {_UNIT_NAMES[units[0]]}, {_SET}={units[0]}" if units else "write the column in one unit"
    table.reject("timestamp", numbers.is_not_null(), f"{rule}; {fix}")
    raise AssertionError("no number")


def _numbers(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Whole numbers as int64, and the other finite ones as float64; null where a value is not of that kind."""
    if values.dtype.is_integer():
        whole = values.cast(pl.Int64, strict=False)
    elif values.dtype == pl.String:
        values = stripped(values)
        whole = values.cast(pl.Int64, strict=False)
    else:
        whole = pl.Series(values.name, [None], dtype=pl.Int64).new_from_index(0, len(values))
    if whole.null_count() == values.null_count():
        return whole, pl.Series(values.name, [None], dtype=pl.Float64).new_from_index(0, len(values))
    real = values.cast(pl.Float64, strict=False)
    return whole, pl.select(pl.when(whole.is_null() & real.is_finite()).then(real)).to_series()


def _together(whole: pl.Series, real: pl.Series) -> pl.Series:
    return pl.select(pl.coalesce(whole.cast(pl.Float64), real)).to_series() if real.count() else whole


def _day(second: int) -> str:
    try:
        return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError):
        return "a year before 1" if second < 0 else "a year after 9999"
