"""Which values are missing: nothing, characters that nobody sees, and the words that people write for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from components.prepare_data.changes import Changes
from components.prepare_data.plain import BLANK
from components.prepare_data.table import Table
from sella_rec.config import DataConfig


@dataclass(frozen=True)
class Missing:
    """What counts as missing besides null and blank text, and what becomes of such rows.

    Attributes:
        words: compared without regard to case and to white space around; one that is a number counts in number
            columns too.
        drop: missing identifiers, times and labels become null, and not an error.
    """

    words: tuple[str, ...]
    drop: bool

    @classmethod
    def of(cls, config: DataConfig) -> Missing:
        """As the settings `data.missing` and `data.missing_rows` say."""
        return cls(tuple(config.missing), config.missing_rows == "drop")

    def mask(self, values: pl.Series) -> pl.Series:
        """Boolean, true where a value is missing."""
        if values.dtype == pl.String:
            words = "|".join(pl.escape_regex(word) for word in self.words)
            return values.str.contains(rf"^[{BLANK}]*(?i:{words})?[{BLANK}]*$").fill_null(True)
        mask = values.is_null()
        if values.dtype.is_float():
            mask |= values.is_nan().fill_null(True)
        numbers = [number for number in map(_number, self.words) if math.isfinite(number)]
        if numbers and values.dtype.is_numeric():
            mask |= values.cast(pl.Float64).is_in(numbers).fill_null(True)
        return mask

    def nulls(self, table: Table, field: str, values: pl.Series, changes: Changes) -> pl.Series:
        """`values` with null where they are missing; a row without a title is no error.

        Raises:
            DataError: an identifier, time, rating or label is missing, and such rows are not dropped.
        """
        mask = self.mask(values)
        if not mask.any():
            return values
        if field != "title" and not self.drop:
            table.reject(field, mask, self._fix(field, values.filter(mask)))
        after = pl.select(pl.when(~mask).then(values)).to_series().rename(field)
        changes.add(field, "missing", values, after)
        return after

    def _fix(self, field: str, missing: pl.Series) -> str:
        fix = "to drop such rows, --set data.missing_rows=drop"
        if field in ("user_id", "item_id") and not _NO_WORDS.mask(missing[:1]).all():
            fix += f"; if {missing[0]!r} is an identifier, --set 'data.missing=[]'"
        return f"the {field} is missing; {fix}"


_NO_WORDS = Missing((), drop=False)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
