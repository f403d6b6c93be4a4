"""The columns of both tables under one configuration: from what the files have to our types, or one clear error."""

from __future__ import annotations

import polars as pl

from components.prepare_data.changes import Changes
from components.prepare_data.ids import ids
from components.prepare_data.labels import labels
from components.prepare_data.missing import Missing
from components.prepare_data.table import Table
from components.prepare_data.times import Times
from components.prepare_data.titles import title_text, titles
from sella_rec.config import DataConfig


class Columns:
    """Reads tables one after the other.

    Attributes:
        changes: what rules changed so far.
        rows_missing, items_missing: rows left out for a missing value.
        titles_cleaned: titles that differ from what the files have.
    """

    def __init__(self, config: DataConfig, changes: Changes) -> None:
        self.changes = changes
        self.rows_missing = self.items_missing = self.titles_cleaned = 0
        self._config = config
        self._missing = Missing.of(config)
        self._times = Times(config, self._missing)

    def interactions(self, table: Table, target: str) -> pl.DataFrame:
        """user_id, item_id (int64 or string), timestamp (int64, Unix seconds), label (int8), made of `target`.

        Raises:
            DataError: a value that the contract does not allow.
        """
        missing, changes = self._missing, self.changes
        frame = pl.DataFrame(
            {
                "user_id": ids(table, "user_id", missing, changes),
                "item_id": ids(table, "item_id", missing, changes),
                "timestamp": self._times.seconds(table, changes),
                "label": labels(table, target, self._config.like_threshold, missing, changes),
            }
        )
        kept = frame.drop_nulls()
        self.rows_missing += frame.height - kept.height
        return kept

    def items(self, table: Table) -> pl.DataFrame:
        """item_id (int64 or string) and title (null without one).

        Raises:
            DataError: a value that the contract does not allow.
        """
        title = titles(table, self._config.reject_title, self._missing, self.changes)
        self.titles_cleaned += int((title != title_text(table)).sum())
        frame = pl.DataFrame({"item_id": ids(table, "item_id", self._missing, self.changes), "title": title})
        kept = frame.drop_nulls("item_id")
        self.items_missing += frame.height - kept.height
        return kept

    def tell(self) -> None:
        """Add to the changes how the times were read."""
        self._times.tell(self.changes)
