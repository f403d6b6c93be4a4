"""Dates as text, against the standard library."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare_data.dates import FORMATS, fitting_formats, format_seconds, iso_seconds, set_format

ZONES = st.one_of(st.none(), st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m))))
MOMENTS = st.datetimes(datetime(1902, 1, 1), datetime(2100, 1, 1), timezones=ZONES)


def seconds_of(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.replace(microsecond=0).timestamp())


@settings(max_examples=100, deadline=None)
@given(st.lists(MOMENTS, min_size=1))
def test_iso_times_agree_with_the_standard_library(moments: list[datetime]) -> None:
    assert iso_seconds(pl.Series([m.isoformat() for m in moments])).to_list() == list(map(seconds_of, moments))


@pytest.mark.parametrize(
    "text",
    [
        *("2000-01-01", "2000/01/01", "2000.01.01", "2000-01", "2000-01-01 00:00", "2000-01-01T00:00:00.999Z"),
        *("2000-01-01T02:00:00+0200", "2000-01-01T02:00:00 +02", "2000-01-01 00:00:00 UTC", "2000-01-01t00:00z"),
        *("20000101T000000Z", "20000101T0000", "2000-01-01 00:00:00,5"),
    ],
)
def test_variants_of_iso(text: str) -> None:
    assert iso_seconds(pl.Series([text])).to_list() == [946684800]


@pytest.mark.parametrize(
    "text", ["2000-02-30", "2000-13-01", "31.12.1999", "2000-01-01T25:00", "12:00", "", "x2000-01-01"]
)
def test_no_iso(text: str) -> None:
    assert iso_seconds(pl.Series([text])).to_list() == [None]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FORMATS), st.lists(MOMENTS, min_size=1, max_size=5))
def test_formats_agree_with_the_standard_library(strptime: str, moments: list[datetime]) -> None:
    texts = [(m if m.tzinfo else m.replace(tzinfo=UTC)).strftime(strptime) for m in moments]
    if "%y" in strptime and any(not 1970 <= m.year < 2069 for m in moments):
        return
    expected = [seconds_of(datetime.strptime(text, strptime)) for text in texts]
    assert format_seconds(pl.Series(texts), strptime).to_list() == expected


def test_fractions_are_cut_off_as_pythons_format_has_them() -> None:
    text = pl.Series(["31/12/1999 23:59:59.999999", "31/12/1999 23:59:59"])
    assert format_seconds(text, "%d/%m/%Y %H:%M:%S.%f").to_list() == [946684799, 946684799]


def test_the_formats_that_fit_are_those_that_read_every_value() -> None:
    first, last = seconds_of(datetime(1971, 1, 1)), seconds_of(datetime(2026, 1, 1))
    assert fitting_formats(pl.Series(["11/09/2020", "1/2/2021"]), first, last) == ["%d/%m/%Y", "%m/%d/%Y"]
    assert fitting_formats(pl.Series(["11/09/2020", "31/12/2020", None]), first, last) == ["%d/%m/%Y"]
    assert fitting_formats(pl.Series(["11/09/2020", "soon"]), first, last) == []
    # Amazon's reviewTime, and a tweet's
    assert fitting_formats(pl.Series(["09 3, 2009"]), first, last) == ["%m %d, %Y"]
    assert fitting_formats(pl.Series(["Wed Aug 27 13:08:45 +0000 2008"]), first, last) == ["%a %b %d %H:%M:%S %z %Y"]


def test_the_option_can_be_pasted_into_a_shell() -> None:
    option = shlex.split(set_format("%d %b %Y, %H:%M"))
    assert option == ["--set", "data.columns.timestamp_format=%d %b %Y, %H:%M"]
