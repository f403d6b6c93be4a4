"""Dates as text: ISO 8601 in its variants, and which strptime format would read the rest."""

from __future__ import annotations

import shlex

import polars as pl

_ISO = (
    r"^(?<year>[0-9]{4})[-/.]?(?<month>[0-9][0-9])(?:[-/.]?(?<day>[0-9][0-9]))?"
    r"(?:[Tt ] ?(?<hour>[0-9][0-9]):?(?<minute>[0-9][0-9])(?::?(?<second>[0-9][0-9]))?(?:[.,][0-9]+)?"
    r" ?(?:[Zz]|UTC|GMT|(?<zone>[+-][0-9][0-9])(?::?(?<rest>[0-9][0-9]))?)?)?$"
)
_DAYS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y"),
    *("%d %b %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%m %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%d.%m.%y"),
)
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S")
FORMATS = (
    *(day + time for day in _DAYS for time in _TIMES),
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S GMT",
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Y",
    "%d/%b/%Y:%H:%M:%S %z",
    "%a %b %d %Y",
    *("%Y%m", "%d%m%Y", "%m%d%Y", "%y%m%d"),
)


def iso_seconds(text: pl.Series) -> pl.Series:
    """Unix seconds of ISO 8601 dates and times, int64, null for other text; without a zone it is UTC.

    Besides ISO: `/` or `.` between the parts of the date, UTC or GMT for Z, and a month without a day for its first.
    """
    # the commonest shape in an eighth of the time
    found = text.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False).dt.epoch("s")
    rest = found.is_null() & text.is_not_null()
    if not rest.any():
        return found
    others = pl.select(pl.when(rest).then(text)).to_series()
    return found.zip_with(~rest, _any_iso_seconds(others))


def _any_iso_seconds(text: pl.Series) -> pl.Series:
    part = text.str.extract_groups(_ISO).struct.unnest()
    parts = pl.concat_str(
        pl.concat_str("year", "month", pl.col("day").fill_null("01"), separator="-"),
        pl.lit("T"),
        pl.concat_str(*(pl.col(name).fill_null("00") for name in ("hour", "minute", "second")), separator=":"),
        pl.col("zone").fill_null("+00"),
        pl.col("rest").fill_null("00"),
    )
    return part.select(parts.str.to_datetime("%Y-%m-%dT%H:%M:%S%z", strict=False).dt.epoch("s")).to_series()


def format_seconds(text: pl.Series, strptime: str) -> pl.Series:
    """Unix seconds of dates as `strptime` writes them, int64, null for other text; without a zone it is UTC."""
    # chrono's name for a fraction of a second differs from Python's
    times = text.str.to_datetime(strptime.replace(".%f", "%.f"), strict=False)
    return times.dt.epoch("s")


def fitting_formats(text: pl.Series, first: int, last: int) -> list[str]:
    """The formats of `FORMATS` that read every value as a time from `first` to `last` (Unix seconds)."""
    text = text.drop_nulls().unique().head(10_000)
    return [f for f in FORMATS if format_seconds(text, f).is_between(first, last).fill_null(False).all()]


def set_format(strptime: str) -> str:
    """The option that sets `strptime`, to be pasted into a shell."""
    return f"--set {shlex.quote(f'data.columns.timestamp_format={strptime}')}"
