"""Cron expressions as people write them, in the dialect of Kubeflow Pipelines."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sella_rec.errors import UserError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
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
