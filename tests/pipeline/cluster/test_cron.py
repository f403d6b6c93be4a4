"""The five fields that people write, against the minutes that they name one by one."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pipeline.cluster.cron import CronError, CronTimes, from_kfp, to_kfp
from tests.fakes.kfp_scheduler import cron_matches


@pytest.mark.parametrize(
    ("five", "six"),
    [
        ("0 3 * * 1", "0 0 3 * * 1"),
        ("0 3 * * mon", "0 0 3 * * 1"),
        ("*/15 * * * *", "0 */15 * * * *"),
        ("0 0 * * 7", "0 0 0 * * 0"),
        ("0 0 * * Fri-7", None),
        ("0 0 * * 5-7", "0 0 0 * * 0,5,6"),
        ("0 0 * * SAT,SUN", "0 0 0 * * 0,6"),
        ("30 4 1,15 jan-mar/2 *", "0 30 4 1,15 1,3 *"),
        ("0 8-10 * * MON-FRI", "0 0 8,9,10 * * 1,2,3,4,5"),
        ("0 0 29 2 *", "0 0 0 29 2 *"),
        ("0 0 * * */2,7", "0 0 0 * * */2,0,2,4,6"),
        ("  0  3 * *   1 ", "0 0 3 * * 1"),
    ],
)
def test_five_fields_become_six(five, six):
    assert to_kfp(five) == (six or "0 0 0 * * 0,5,6")


@pytest.mark.parametrize(
    ("five", "message"),
    [
        ("0 0 3 * * 1", "6 fields, not 5"),
        ("@weekly", "1 fields, not 5"),
        ("60 3 * * 1", "minute, '60': '60' is not 0 to 59"),
        ("0 24 * * *", "hour"),
        ("0 0 0 * *", "day of month"),
        ("0 0 * 13 *", "month, '13': '13' is not 1 to 12 or jan to dec"),
        ("0 0 * * 8", "day of week"),
        ("0 0 * * monday", "'monday' is not 0 to 7 or sun to sat"),
        ("0 5-3 * * *", "'5-3' is empty"),
        ("*/0 * * * *", "'*/0' is empty"),
        ("5/15 * * * *", "a step needs"),
        ("*-5 * * * *", "a range needs two values"),
        ("1,,2 * * * *", "neither"),
        ("-1 * * * *", "neither"),
        ("0 0 31 feb,apr *", "never fires"),
        ("*/70 * * * *", "minute, '*/70': the step 70 is larger than 59"),
    ],
)
def test_what_is_no_cron_is_refused(five, message):
    with pytest.raises(CronError, match=message.replace("*", r"\*")):
        to_kfp(five)


@pytest.mark.parametrize(
    "five",
    [
        "0 3 * * 1",
        "*/15 * * * *",
        "0 0 1,15 jan-mar *",
        "30 4 13 * fri",
        "0 5 */2 * *",
        "15 22 * * */3,7",
    ],
)
def test_times_are_those_of_the_minutes_that_the_fields_name(five):
    cron, minute = to_kfp(five), timedelta(minutes=1)
    moments = random.Random(five)
    for _ in range(2):
        moment = datetime(2027, 11, 1, tzinfo=UTC) + moments.randrange(150 * 1440) * minute
        after, until = moment + minute, moment
        while not cron_matches(cron, after):
            after += minute
        times = CronTimes(cron)
        assert times.after(moment) == after
        while not cron_matches(cron, until):
            until -= minute
        assert times.until(moment) == until
    assert times.until(after) == after
    assert times.after(after - timedelta(seconds=1)) == after


def test_a_day_that_few_years_have_is_found():
    leap = CronTimes(to_kfp("0 0 29 2 *"))
    assert leap.after(datetime(2097, 1, 1, tzinfo=UTC)) == datetime(2104, 2, 29, tzinfo=UTC)
    assert leap.until(datetime(2027, 1, 1, tzinfo=UTC)) == datetime(2024, 2, 29, tzinfo=UTC)


def test_times_are_in_the_time_zone_of_kfps_controller(monkeypatch):
    times, noon = CronTimes("0 0 3 * * 1"), datetime(2026, 11, 22, 12, tzinfo=UTC)
    monkeypatch.setenv("CRON_SCHEDULE_TIMEZONE", "Europe/Berlin")
    assert times.after(noon) == datetime(2026, 11, 23, 2, tzinfo=UTC)
    assert times.after(noon).tzinfo == ZoneInfo("Europe/Berlin")
    monkeypatch.setenv("CRON_SCHEDULE_TIMEZONE", "Berlin")
    with pytest.raises(CronError, match="CRON_SCHEDULE_TIMEZONE = Berlin is not a time zone"):
        times.after(noon)


def test_six_fields_are_shown_as_five_unless_they_have_seconds():
    assert from_kfp(to_kfp("0 3 * * 1")) == "0 3 * * 1"
    assert from_kfp("30 0 3 * * 1") == "30 0 3 * * 1"
    with pytest.raises(CronError, match="does not fire at second 0"):
        CronTimes("30 0 3 * * 1")
