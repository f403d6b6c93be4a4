"""The column of times: one unit, plausible moments, and messages whose advice works."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare_data.changes import Changes
from components.prepare_data.times import Times
from sella_rec.config import DataConfig
from sella_rec.data.errors import DataError
from tests.components.prepare_data.tables import DROP, FAIL, table

FIRST = 964982703  # 2000-07-30T18:45:03Z, and the day of it
DAY = 964915200
MOMENTS = st.integers(788918400, 1767225600)


def seconds(values: list[Any] | pl.Series, **config: Any) -> list[int | None]:
    unit = {name: config.pop(name) for name in ("timestamp_unit", "timestamp_format") if name in config}
    times = Times(DataConfig.model_validate({"columns": unit, **config}), FAIL)
    return times.seconds(table("timestamp", values), Changes()).to_list()


def typed(unit: str, zone: str | None) -> Any:
    return lambda times: (
        pl.from_epoch(pl.Series(times), "s")
        .dt.replace_time_zone("UTC")
        .dt.convert_time_zone(zone or "UTC")
        .dt.replace_time_zone(zone)
        .cast(pl.Datetime(unit, zone))
    )


def iso(zone: timezone, pattern: str) -> Any:
    return lambda times: pl.Series([datetime.fromtimestamp(second, zone).strftime(pattern) for second in times])


WRITTEN = {
    "seconds": pl.Series,
    "uint32": lambda times: pl.Series(times, dtype=pl.UInt32),
    "text": lambda times: pl.Series(map(str, times)),
    "text with blanks": lambda times: pl.Series([f"\u00a0{second}\u200b" for second in times]),
    "floats": lambda times: pl.Series([second + 0.5 for second in times]),
    "floats as text": lambda times: pl.Series([f"{second}.25" for second in times]),
    "scientific": lambda times: pl.Series([f"{second:.9E}" for second in times]),
    "decimals": lambda times: pl.Series([str(second) for second in times]).cast(pl.Decimal(20, 3)),
    "milliseconds": lambda times: pl.Series([second * 1000 + 999 for second in times]),
    "milliseconds as floats": lambda times: pl.Series([second * 1e3 for second in times]),
    "microseconds": lambda times: pl.Series([second * 10**6 for second in times]),
    "nanoseconds as text": lambda times: pl.Series([str(second * 10**9 + 999_999_999) for second in times]),
    "spreadsheet": lambda times: pl.Series([second / 86400 + 25569 for second in times]),
    "spreadsheet as text": lambda times: pl.Series([repr(second / 86400 + 25569) for second in times]),
    "digits": iso(UTC, "%Y%m%d%H%M%S"),
    "naive": iso(UTC, "%Y-%m-%d %H:%M:%S"),
    "zone": iso(timezone(timedelta(hours=-5, minutes=-30)), "%Y-%m-%dT%H:%M:%S%z"),
    "typed ms": typed("ms", None),
    "typed us": typed("us", "Asia/Kolkata"),
    "typed ns (int96)": typed("ns", None),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_the_same_instants_however_they_are_written(how: str) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.lists(MOMENTS, min_size=1))
    def check(times: list[int]) -> None:
        assert seconds(WRITTEN[how](times)) == times

    check()


@pytest.mark.parametrize(
    "values", [[20000730], ["20000730"], ["2000-07-30"], [36737], ["36737.0"], [date(2000, 7, 30)]]
)
def test_days(values: list[Any]) -> None:
    assert seconds(values) == [DAY]


def test_years_alone_and_days_by_the_setting() -> None:
    assert seconds([1998, 1999]) == [883612800, 915148800]
    assert seconds(["1998"]) == [883612800]
    assert seconds([11168], timestamp_unit="days") == [DAY]


def test_numbers_of_one_unit_and_dates_may_be_mixed() -> None:
    text = [str(FIRST * 1000), "2000-07-30", "2000-07-30T18:45:03+00:00", f"{FIRST}000.5"]
    assert seconds(text) == [FIRST, DAY, FIRST, FIRST]


def test_a_format_reads_text_and_numbers() -> None:
    assert seconds(["30/07/2000", " 31/07/2000"], timestamp_format="%d/%m/%Y") == [DAY, DAY + 86400]
    assert seconds([200007301845], timestamp_format="%Y%m%d%H%M") == [DAY + 18 * 3600 + 45 * 60]
    assert seconds(["30.7.2000 20:45:03 +0200"], timestamp_format="%d.%m.%Y %H:%M:%S %z") == [FIRST]


def test_a_unit_and_a_format_together_are_refused() -> None:
    with pytest.raises(ValueError, match="set one of them"):
        seconds([FIRST], timestamp_unit="s", timestamp_format="%Y")


def test_a_unit_of_ones_own_takes_what_no_one_would_recognize() -> None:
    assert seconds([10, 0, -1], timestamp_unit="s") == [10, 0, -1]
    assert seconds([2000, 2001], timestamp_unit="s") == [2000, 2001]
    assert seconds([FIRST], timestamp_unit="s") == [FIRST]


def test_missing_times() -> None:
    times = Times(DataConfig(), DROP)
    values = [str(FIRST), "NaT", None, "\u200b"]
    assert times.seconds(table("timestamp", values), Changes()).to_list() == [FIRST, None, None, None]
    assert times.seconds(table("timestamp", pl.Series([None, None])), Changes()).to_list() == [None, None]
    with pytest.raises(DataError, match="row 3, column 'time': the timestamp is missing"):
        seconds([1.0, None])


def test_the_window_decides_on_impossible_times() -> None:
    values = [FIRST, FIRST, FIRST, FIRST, 0, -1, 1e20]
    with pytest.raises(
        DataError, match=r"1970-01-01 is before 1971; --set data.window_from=1971-01-01 drops such rows"
    ):
        seconds(values)
    with pytest.raises(DataError, match=r"a year after 9999 is in the future; --set data.window_until="):
        seconds(values, window_from="1995-01-01")
    found = seconds(values, window_from="1995-01-01", window_until="2020-01-01")
    assert found[3:6] == [FIRST, 0, -1]


def test_the_window_hides_no_row_of_another_unit() -> None:
    values = [FIRST, FIRST, FIRST * 1000]
    with pytest.raises(DataError, match=r"row 4, .*: Unix milliseconds among Unix seconds; write all rows in one unit"):
        seconds(values, window_from="1995-01-01", window_until="2020-01-01")


BAD = {
    "counts": [1, 2, 3],
    "counts as text": ["1", "2", "3"],
    "zeros": [0, 0],
    "mostly zeros": [0, 0, 0, FIRST],
    "counts with years": list(range(3000)),
    "days": [11168, 11169],
    "day first": ["11/09/2020", "31/12/2020"],
    "either first": ["11/09/2020", "01/02/2020"],
    "words": ["Sep 11, 2020", "Jan 1, 2021"],
    "day and time": ["11.09.2020 13:45", "1.1.2021 00:00"],
    "months": [200007, 202012],
    "day first without separators": ["30072000", "31072000"],
    "the future": ["2020-09-11", "9999-12-31"],
    "nothing but the future": ["9999-12-31", "2999-01-01"],
    "the epoch": [date(2020, 1, 1), date(1970, 1, 1)],
    "seconds typed as milliseconds": pl.Series([FIRST, FIRST + 86400]).cast(pl.Datetime("ms")),
    "zero among seconds": [FIRST, FIRST, 0],
    "minus one": [float(FIRST), float(FIRST), -1.0],
    "huge": [float(FIRST), float(FIRST), 1e20],
}


def pasted(message: str) -> DataConfig:
    """The configuration after the first advice of `message`."""
    words = shlex.split(re.split(r"; (?!.*--set)| \(got", message.replace(" (", " ; ("))[0])
    config: dict[str, Any] = {"columns": {}}
    for option, value in pairwise(words):
        if option == "--set" and config == {"columns": {}}:
            name, _, text = value.partition("=")
            name = name.removeprefix("data.")
            (config["columns"] if name.startswith("columns.") else config)[name.removeprefix("columns.")] = text
    assert config != {"columns": {}}, message
    return DataConfig.model_validate(config)


@pytest.mark.parametrize("kind", BAD)
def test_the_advice_for_what_is_refused_works(kind: str) -> None:
    with pytest.raises(DataError, match=r"r\.csv, row \d, column 'time': ") as refused:
        seconds(BAD[kind])
    message = str(refused.value).partition("--set")
    config = pasted("--set" + message[2])
    found = Times(config, FAIL).seconds(table("timestamp", BAD[kind]), Changes())
    assert found.null_count() == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            ["2000-01-01", "soon"],
            r"row 3, column 'time': not a time; expected a Unix time or ISO 8601.* \(got 'soon'\)",
        ),
        (["2000-01-01", "2000-02-30"], r"row 3, column 'time': not a time; .* \(got '2000-02-30'\)"),
        ([float(FIRST), float("inf")], "row 3, column 'time': not a time"),
        ([str(FIRST), "1e999"], "row 3, column 'time': not a time"),
        ([timedelta(1)], r"column 'time' contains Duration\(.*; expected numbers, text or times"),
        ([True], "column 'time' contains Boolean; expected numbers, text or times"),
        (
            [FIRST, FIRST * 1000],
            "row 2, column 'time': the column contains times in Unix seconds and Unix mill",
        ),
        ([20200911, 20200912, FIRST], "row 4, column 'time': Unix seconds among dates written as numbers"),
        ([FIRST, FIRST, 20200911], "row 4, column 'time': dates written as numbers .* among Unix seconds"),
    ],
)
def test_bad_times(values: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        seconds(values)


def test_a_wrong_setting_is_refused_with_the_right_one() -> None:
    for unit, values in (("s", [FIRST * 1000]), ("ms", [FIRST]), ("ns", ["2000-07-30", str(FIRST)])):
        with pytest.raises(DataError, match=r"but .* in data.columns.timestamp_unit; use --set .*unit=") as refused:
            seconds(values, timestamp_unit=unit)
        assert seconds(values, timestamp_unit=str(refused.value).rpartition("=")[2])[-1] == FIRST
    with pytest.raises(DataError, match=r"not a time in data.columns.timestamp_unit=year"):
        seconds([2000.5], timestamp_unit="year")
    with pytest.raises(
        DataError, match=r"timestamp_format=%m/%d/%Y says; --set data.columns.timestamp_format=%d/%m/%Y"
    ):
        seconds(["31/12/2020"], timestamp_format="%m/%d/%Y")


def test_all_files_are_in_the_unit_of_the_first() -> None:
    times = Times(DataConfig(), FAIL)
    assert times.seconds(table("timestamp", [], "0.csv"), Changes()).to_list() == []
    assert times.seconds(table("timestamp", [FIRST * 1000], "1.csv"), Changes()).to_list() == [FIRST]
    assert times.seconds(table("timestamp", ["2000-07-30"], "2.csv"), Changes()).to_list() == [DAY]
    assert times.seconds(table("timestamp", [str(FIRST * 1000)], "3.csv"), Changes()).to_list() == [FIRST]
    with pytest.raises(
        DataError, match=r"4\.csv: column 'time' contains Unix seconds, but Unix milliseconds in 1\.csv"
    ):
        times.seconds(table("timestamp", [FIRST], "4.csv"), Changes())


def test_how_times_were_read_is_told_with_the_first_and_the_last() -> None:
    changes = Changes()
    times = Times(DataConfig(), FAIL)
    times.seconds(table("timestamp", [FIRST * 1000, FIRST * 1000 + 86_400_000], "1.csv"), changes)
    times.seconds(table("timestamp", ["2001-01-01"], "2.csv"), changes)
    times.tell(changes)
    told = "times in 2 files: Unix milliseconds (recognized), dates; from 2000-07-30 to 2001-01-01"
    assert changes.to_dict()["notes"] == {"1.csv": [told]}
