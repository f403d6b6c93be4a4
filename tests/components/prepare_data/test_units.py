"""Units of time, against the standard library's calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare_data.units import UNITS, at, inside, recognized, to_seconds, tomorrow

EXCEL = datetime(1899, 12, 30, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1995, 1, 2), datetime(2026, 1, 1), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)


def written(moment: datetime, unit: str) -> float:
    """`moment` in `unit`, by the calendar."""
    since = moment - EPOCH
    return {
        "s": since // timedelta(seconds=1),
        "ms": since // timedelta(milliseconds=1),
        "us": since // timedelta(microseconds=1),
        "ns": since // timedelta(microseconds=1) * 1000,
        "days": since.days,
        "excel": (moment - EXCEL) / timedelta(days=1),
        "year": moment.year,
        "date": int(moment.strftime("%Y%m%d%H%M%S")),
    }[unit]


def start(moment: datetime, unit: str) -> datetime:
    """What is left of `moment` in a unit that is coarser than a second."""
    midnight = moment.replace(hour=0, minute=0, second=0)
    return {"days": midnight, "year": midnight.replace(month=1, day=1)}.get(unit, moment)


@pytest.mark.parametrize("unit", UNITS)
def test_a_moment_is_the_same_in_every_unit(unit: str) -> None:
    @settings(max_examples=50, deadline=None)
    @given(st.lists(MOMENTS, min_size=1))
    def check(moments: list[datetime]) -> None:
        expected = [int(start(moment, unit).timestamp()) for moment in moments]
        numbers = pl.Series([written(moment, unit) for moment in moments])
        assert to_seconds(numbers, unit).to_list() == expected  # type: ignore[arg-type]
        assert to_seconds(numbers.cast(pl.Float64), unit).to_list() == expected  # type: ignore[arg-type]
        assert recognized(numbers) == (None if unit == "days" else unit)

    check()


def test_digits_with_and_without_the_time_of_day() -> None:
    numbers = pl.Series([20240531, 202405311230, 20240531123059, 20240230, 2024, 20240531.5, None], dtype=pl.Float64)
    expected = [datetime(2024, 5, 31), datetime(2024, 5, 31, 12, 30), datetime(2024, 5, 31, 12, 30, 59)]
    seconds = [int(moment.replace(tzinfo=UTC).timestamp()) for moment in expected]
    assert to_seconds(numbers, "date").to_list() == [*seconds, None, None, None, None]


def test_fractions_are_cut_off_and_huge_numbers_stay_far_away() -> None:
    assert to_seconds(pl.Series([1.9, -0.1]), "s").to_list() == [1, -1]
    assert to_seconds(pl.Series([1999, -1]), "ms").to_list() == [1, -1]
    far = to_seconds(pl.Series([1e20, -1e300]), "s")
    assert (far.abs() > at(9999)).all()
    assert to_seconds(pl.Series([2024.5, 0.0, 20240531.0]), "year").to_list() == [None, None, None]


@pytest.mark.parametrize(
    "values",
    [
        [0, 1, 2],
        [-1],
        [10**20 * 1.0],
        [17_000, 18_000],
        [132_539_328_000_000_000],
        [637_000_000_000_000_000],
        [4.0, 5.0],
    ],
)
def test_counts_and_the_ticks_of_other_clocks_are_no_known_unit(values: list[float]) -> None:
    assert recognized(pl.Series(values)) is None


def test_the_unit_of_most_rows_counts() -> None:
    assert recognized(pl.Series([0, 946684800, 946684801])) == "s"
    assert recognized(pl.Series([0, 0, 946684800])) is None
    assert recognized(pl.Series([946684800, 946684800000])) is None
    assert recognized(pl.Series([], dtype=pl.Int64)) is None


def test_no_number_is_plausible_in_two_units() -> None:
    first, last = at(1995), tomorrow()
    moments = [EPOCH + timedelta(seconds=second) for second in (first, last)]
    edges = pl.Series([float(written(moment, unit)) for unit in UNITS for moment in moments])
    times = [inside(edges, unit, first, last) for unit in UNITS]  # type: ignore[arg-type]
    assert pl.DataFrame([t.alias(u) for t, u in zip(times, UNITS, strict=True)]).sum_horizontal().max() == 1
