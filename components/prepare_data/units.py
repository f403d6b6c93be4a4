"""Times as numbers: which unit puts them into the plausible years, and what they are in seconds."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Literal, get_args

import polars as pl

Unit = Literal["s", "ms", "us", "ns", "days", "excel", "year", "date"]
UNITS: tuple[Unit, ...] = get_args(Unit)
DAY = 86_400
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
SINCE_1970 = frozenset(_PER_SECOND)
# 1970-01-01 in a spreadsheet
_EXCEL_EPOCH = 25_569
# digits -> how they are written
_DIGITS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
# far beyond any year, and far from the ends of int64
_FAR = 10**15


def at(year: int) -> int:
    """Unix seconds of the start of `year`."""
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp())


def tomorrow() -> int:
    """Unix seconds one day from now: no clock is further ahead."""
    return int(time.time()) + DAY


# the oldest of the public data sets in use, MovieLens, begins in January 1995
RECOGNIZED_FROM = at(1995)


def to_seconds(numbers: pl.Series, unit: Unit) -> pl.Series:
    """Unix seconds, int64, fractions cut off (of Excel's days: rounded); null where `numbers` is no time in `unit`."""
    name = numbers.name
    if unit == "year":
        return _from_digits(numbers, 4, "%Y").rename(name)
    if unit == "date":
        read = [_from_digits(numbers, digits, text) for digits, text in _DIGITS.items()]
        return pl.select(pl.coalesce(read)).to_series().rename(name)
    if unit == "excel":
        seconds = ((numbers.cast(pl.Float64) - _EXCEL_EPOCH) * DAY).round()
    elif unit == "days":
        seconds = (numbers.cast(pl.Float64) * DAY).floor()
    elif numbers.dtype.is_integer():
        return numbers // _PER_SECOND[unit] if unit != "s" else numbers
    else:
        seconds = (numbers / _PER_SECOND[unit]).floor()
    return seconds.clip(-_FAR, _FAR).cast(pl.Int64, strict=False)


def inside(numbers: pl.Series, unit: Unit, first: int, last: int) -> pl.Series:
    """Boolean: whether `numbers` are from `first` to `last`, Unix seconds, when read in `unit`; null is false."""
    found = pl.Series([False], dtype=pl.Boolean).new_from_index(0, len(numbers))
    for low, high in _range(unit, first, last):
        found |= numbers.is_between(low, high).fill_null(False)
    return found


def recognized(numbers: pl.Series, share: float = 0.5) -> Unit | None:
    """The unit in which more than a `share` of `numbers` (not null) are from 1995 to tomorrow; none if there is none.

    A count of days may as well be any other count, so it is never taken for a time unasked.
    """
    last = tomorrow()
    for unit in UNITS:
        if unit != "days" and (inside(numbers, unit, RECOGNIZED_FROM, last).mean() or 0.0) > share:  # type: ignore[operator]
            return unit
    return None


def _range(unit: Unit, first: int, last: int) -> list[tuple[float, float]]:
    if unit in _PER_SECOND:
        return [(first * _PER_SECOND[unit], last * _PER_SECOND[unit])]
    if unit in ("days", "excel"):
        epoch = _EXCEL_EPOCH if unit == "excel" else 0
        return [(first / DAY + epoch, last / DAY + epoch)]
    start, end = (datetime.fromtimestamp(seconds, UTC) for seconds in (first, last))
    if unit == "year":
        return [(start.year, end.year)]
    return [(int(start.strftime(text)), int(end.strftime(text))) for text in _DIGITS.values()]


def _from_digits(numbers: pl.Series, digits: int, text: str) -> pl.Series:
    whole = numbers.cast(pl.Int64, strict=False)
    fits = (whole == numbers) & whole.is_between(10 ** (digits - 1), 10**digits - 1)
    written = pl.select(pl.when(fits).then(whole)).to_series().cast(pl.String)
    return written.str.to_datetime(text, strict=False).dt.epoch("s")
