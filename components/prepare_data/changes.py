"""What the rules changed in the values as the files have them: counted, with examples, for the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

EXAMPLES = 3


@dataclass
class _Change:
    count: int = 0
    examples: dict[str, str | None] = field(default_factory=dict)


class Changes:
    """Counts of changed values by column and rule over all files, and remarks on the files themselves."""

    def __init__(self) -> None:
        self._changes: dict[tuple[str, str], _Change] = {}
        self._notes: dict[str, dict[str, None]] = {}

    def add(self, field: str, rule: str, before: pl.Series, after: pl.Series, rows: pl.Series | None = None) -> None:
        """Count the rows where `after` differs from `before` (same length) and keep up to three different examples.

        Values are compared as text, so that 1.0 (a float) differs from 1 and 1 (an integer) does not from '1'.

        Args:
            rows: how many rows have the value, if `before` is the distinct values.
        """
        old, new = before.cast(pl.String).alias("old"), after.cast(pl.String).alias("new")
        pairs = pl.DataFrame([old, new]) if rows is None else pl.DataFrame([old, new, rows.alias("rows")])
        changed = pairs.filter(pl.col("old").ne_missing(pl.col("new")) & pl.col("old").is_not_null())
        if changed.is_empty():
            return
        change = self._changes.setdefault((field, rule), _Change())
        change.count += changed.height if rows is None else int(changed["rows"].sum())
        if len(change.examples) < EXAMPLES:
            # the first of many: three different ones are nearly always among them
            for was, now in changed.head(1000).select("old", "new").unique(maintain_order=True).iter_rows():
                if len(change.examples) < EXAMPLES:
                    change.examples.setdefault(was, now)

    def note(self, file: str, text: str) -> None:
        """Keep a remark on `file`; said twice, it is kept once."""
        self._notes.setdefault(file, {})[text] = None

    def to_dict(self) -> dict[str, Any]:
        """For report.json.

        `changes`: a list of field, rule, rows, and examples, each [the file's text, ours or None for missing];
        `notes`: file -> remarks.
        """
        changes = [
            {"field": field, "rule": rule, "rows": change.count, "examples": [list(e) for e in change.examples.items()]}
            for (field, rule), change in self._changes.items()
        ]
        return {"changes": changes, "notes": {file: list(texts) for file, texts in self._notes.items()}}
