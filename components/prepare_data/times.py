"""Times of interactions as Unix seconds, whatever they are written as: one unit for a column, over all its files."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl

from components.prepare_data.changes import Changes
from components.prepare_data.dates import fitting_formats, format_seconds, iso_seconds, set_format
from components.prepare_data.missing import Missing
from components.prepare_data.plain import stripped, wrong_type
from components.prepare_data.table import Table
from components.prepare_data.units import (
    RECOGNIZED_FROM,
    SINCE_1970,
    UNITS,
    Unit,
    at,
    inside,
    recognized,
    to_seconds,
    tomorrow,
)
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
_EXPECTED = "expected a Unix time or ISO 8601, such as 2024-05-31T12:00:00Z, or what data.columns.timestamp_format says"
_SET = "--set data.columns.timestamp_unit"


class Times:
    """Reads the column `timestamp` of one table after the other; keeps its unit, and the first and last time."""

    def __init__(self, config: DataConfig, missing: Missing) -> None:
        self._missing = missing
        self._format = config.columns.timestamp_format
        self._unit: Unit | None = config.columns.timestamp_unit
        self._own = self._unit is not None or self._format is not None
        self._from, self._until = config.window_from, config.window_until
        self._unit_from = "data.columns.timestamp_unit"
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
        values = self._missing.nulls(table, "timestamp", table.frame["timestamp"], changes)
        if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
            zone = getattr(values.dtype, "time_zone", None)
            seconds = values.cast(pl.Datetime("us", zone), strict=False).dt.epoch("s")
            self._kinds["typed times"] = None
        elif values.dtype == pl.String or values.dtype.is_numeric():
            seconds = self._formatted(values, self._format) if self._format else self._read(table, values)
        else:
            wrong_type(table, "timestamp", "numbers, text or times")
        self._check(table, values, seconds)
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

    def _formatted(self, values: pl.Series, strptime: str) -> pl.Series:
        self._kinds[f"text as {strptime}"] = None
        return format_seconds(stripped(values.cast(pl.String)), strptime)

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
        numbers = _together(whole, real)
        unit = recognized(numbers.drop_nulls())
        mine = self._unit or unit
        if mine is None:
            table.reject("timestamp", numbers.is_not_null(), _advice(numbers))
        assert mine is not None
        if self._unit is None:
            self._unit, self._unit_from = mine, table.file
        # small numbers that look like years may be anything, and then the setting decides
        elif unit not in (None, mine) and not (self._own and {unit, mine} - SINCE_1970):
            names = f"{_UNIT_NAMES[unit]}, but {_UNIT_NAMES[mine]} in {self._unit_from}"
            fix = f"use {_SET}={unit}" if self._own else "write all files in one unit"
            raise DataError(f"{table.file}: column '{table.columns['timestamp']}' contains {names}; {fix}")
        return mine

    def _check(self, table: Table, values: pl.Series, seconds: pl.Series) -> None:
        first, last = (_ANY_FIRST, _ANY_LAST) if self._own else (_FIRST, tomorrow())
        early, late = (seconds < first).fill_null(False), (seconds >= last).fill_null(False)
        unread = seconds.is_null() & values.is_not_null()
        if not (early.any() or late.any() or unread.any()):
            return
        if self._unit and (values.dtype.is_numeric() or values.dtype == pl.String):
            _reject_other_units(table, values, self._unit, early | late | unread)
        self._reject_unread(table, values, unread)
        self._reject_impossible(table, seconds, early, late)

    def _reject_unread(self, table: Table, values: pl.Series, bad: pl.Series) -> None:
        if not bad.any():
            return
        rule = "not a time"
        if self._format:
            rule = f"not a time as data.columns.timestamp_format={self._format} says"
        elif self._own and values.dtype.is_numeric():
            rule = f"not a time in data.columns.timestamp_unit={self._unit}"
        formats = fitting_formats(stripped(values.cast(pl.String)), _FIRST, tomorrow())
        table.reject("timestamp", bad, f"{rule}; {' or '.join(map(set_format, formats[:2])) or _EXPECTED}")

    def _reject_impossible(self, table: Table, seconds: pl.Series, early: pl.Series, late: pl.Series) -> None:
        if self._own:
            day = _day(seconds.filter(early | late).first())
            table.reject("timestamp", early | late, f"{day} is not from 1900 to 2100")
        if self._from is None:
            fix = "window_from=1900-01-01 takes them" if early.all() else "window_from=1971-01-01 drops such rows"
            day = _day(seconds.filter(early).first())
            table.reject("timestamp", early, f"{day} is before 1971; --set data.{fix}")
        if self._until is None:
            end, does = ("2100-01-01", "takes") if late.all() else (_day(tomorrow()), "drops")
            day = _day(seconds.filter(late).first())
            table.reject("timestamp", late, f"{day} is in the future; --set data.window_until={end} {does} such rows")


def _reject_other_units(table: Table, values: pl.Series, mine: Unit, bad: pl.Series) -> None:
    """DataError for impossible times that another unit makes possible: no rule on rows should hide them."""
    numbers = _together(*_numbers(values))
    for unit in UNITS:
        if unit not in ("days", mine):
            rule = f"{_UNIT_NAMES[unit]} among {_UNIT_NAMES[mine]}; write all rows in one unit"
            table.reject("timestamp", bad & inside(numbers, unit, RECOGNIZED_FROM, tomorrow()), rule)


def _advice(numbers: pl.Series) -> str:
    """What to do about `numbers` of which most are implausible in every unit."""
    known = numbers.drop_nulls()
    plausible = {unit: inside(known, unit, RECOGNIZED_FROM, tomorrow()) for unit in UNITS}
    found = [unit for unit, rows in plausible.items() if rows.any()]
    if len(found) > 1 and pl.DataFrame(plausible).select(pl.any_horizontal(pl.all()).mean()).item() > 0.5:
        names = " and ".join(_UNIT_NAMES[unit] for unit in found)
        return f"the column contains times in {names}; write all rows in one unit"
    rule = "most of the times are outside 1995 to tomorrow in every unit"
    formats = fitting_formats(numbers.cast(pl.String), RECOGNIZED_FROM, tomorrow())
    if formats and not found:
        return f"{rule}; {' or '.join(map(set_format, formats[:2]))}"
    takes = [unit for unit in UNITS if inside(known, unit, _ANY_FIRST, _ANY_LAST).all()]
    units = [unit for unit in found if unit in takes] or takes
    return f"{rule}; if they are {_UNIT_NAMES[units[0]]}, {_SET}={units[0]}" if units else f"{rule}; {_EXPECTED}"


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


def _day(second: Any) -> str:
    """The day in UTC, or on which side of all years it is; nothing for none."""
    if second is None:
        return ""
    try:
        return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError):
        return "a year before 1" if second < 0 else "a year after 9999"
