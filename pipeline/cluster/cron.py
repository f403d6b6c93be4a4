"""Cron expressions: from the five fields that people write to the six of Kubeflow Pipelines, and when they fire."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sella_rec.errors import UserError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# from one 29 February to the next, around a century's end
_HORIZON_DAYS = 8 * 366
_PART = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?")


class CronError(UserError):
    """The expression is not a cron expression of five fields."""


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def values(self, text: str) -> set[int]:
        """All values that the text stands for."""
        return set().union(*(self._part(part, text) for part in text.split(",")))

    def _part(self, part: str, text: str) -> set[int]:
        match = _PART.fullmatch(part)
        if match is None:
            raise CronError(f"cron field {self.name}, '{text}': '{part}' is neither *, a value, a range nor a step")
        step = int(match["step"] or 1)
        if match["first"] == "*":
            if match["last"]:
                raise CronError(f"cron field {self.name}, '{text}': a range needs two values")
            first, last = self.low, self.high
        elif match["step"] and not match["last"]:
            raise CronError(f"cron field {self.name}, '{text}': a step needs * or a range before it")
        else:
            first = self._number(match["first"], text)
            last = self._number(match["last"] or match["first"], text)
        if first > last or step == 0:
            raise CronError(f"cron field {self.name}, '{text}': '{part}' is empty")
        if step > self.high - self.low:
            raise CronError(f"cron field {self.name}, '{text}': the step {step} is larger than {self.high - self.low}")
        return set(range(first, last + 1, step))

    def _number(self, text: str, field: str) -> int:
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.low
        if not text.isdecimal() or not self.low <= int(text) <= self.high:
            known = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise CronError(f"cron field {self.name}, '{field}': '{text}' is not {self.low} to {self.high}{known}")
        return int(text)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    # Sunday is 0 and, as in every crontab, 7
    _Field("day of week", 0, 7, _DAYS),
)


def to_kfp(expression: str) -> str:
    """Translate five fields (minute, hour, day of month, month, day of week) to KFP's six, seconds first.

    KFP knows Sunday as 0 only. Names, ranges and steps become lists of numbers: equal schedules are equal texts.

    Raises:
        CronError: not five fields, a value out of its range, or a day that no month has.
    """
    texts = expression.split()
    if len(texts) != len(_FIELDS):
        raise CronError(
            f"cron '{expression}' has {len(texts)} fields, not 5: minute, hour, day of month, month, day of week"
        )
    values = [field.values(text) for field, text in zip(_FIELDS, texts, strict=True)]
    days, months = values[2], values[3]
    if texts[4] == "*" and min(days) > max(_DAYS_OF_MONTH[month - 1] for month in months):
        raise CronError(f"cron '{expression}' never fires: no month of those has such a day")
    values[4] = {day % 7 for day in values[4]}
    return " ".join(["0", *(_translated(text, found) for text, found in zip(texts, values, strict=True))])


def _translated(text: str, values: set[int]) -> str:
    first = text.split(",")[0]
    # a leading * decides whether days of the month and of the week are both to hold, so it stays
    stars = [first] if first.startswith("*") else []
    numbers = [] if stars == [text] else [str(value) for value in sorted(values)]
    return ",".join(stars + numbers)


def from_kfp(cron: str) -> str:
    """KFP's six fields as the five that people write; what has seconds of its own stays as it is."""
    seconds, _, rest = cron.partition(" ")
    return rest if seconds == "0" and len(rest.split()) == len(_FIELDS) else cron


def time_zone() -> ZoneInfo:
    """The time zone of KFP's schedules: `CRON_SCHEDULE_TIMEZONE`, as its controller has it; else UTC.

    Raises:
        CronError: there is no such time zone.
    """
    name = os.environ.get("CRON_SCHEDULE_TIMEZONE", "UTC")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise CronError(f"CRON_SCHEDULE_TIMEZONE = {name} is not a time zone, such as Europe/Berlin") from error


class CronTimes:
    """The times at which one of KFP's expressions fires, in `time_zone()`.

    Raises:
        CronError: not six fields that start with second 0, or not of numbers, `*`, lists, ranges and steps.
    """

    def __init__(self, cron: str) -> None:
        texts = from_kfp(cron).split()
        if len(texts) != len(_FIELDS):
            raise CronError(f"cron '{cron}' does not fire at second 0 of a minute")
        minutes, hours, self._days, self._months, weekdays = (
            field.values(text) for field, text in zip(_FIELDS, texts, strict=True)
        )
        self._weekdays = {day % 7 for day in weekdays}
        self._clock = [time(hour, minute) for hour in sorted(hours) for minute in sorted(minutes)]
        self._both = texts[2].startswith("*") or texts[4].startswith("*")

    def after(self, moment: datetime) -> datetime | None:
        """The first time after a moment; none within eight years."""
        return self._search(moment, 1)

    def until(self, moment: datetime) -> datetime | None:
        """The last time up to a moment, itself included; none within eight years."""
        return self._search(moment, -1)

    def _search(self, moment: datetime, step: int) -> datetime | None:
        zone = time_zone()
        start = moment.astimezone(zone)
        for days in range(_HORIZON_DAYS):
            day = start.date() + timedelta(days=step * days)
            for clock in self._clock[::step] if self._on(day) else []:
                found = datetime.combine(day, clock, zone)
                if (found > start) if step > 0 else (found <= start):
                    return found
        return None

    def _on(self, day: date) -> bool:
        dates = day.day in self._days, day.isoweekday() % 7 in self._weekdays
        return day.month in self._months and (all(dates) if self._both else any(dates))
