"""What the data report says beyond its flat figures: widest users and items, distributions, what rules changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from components.prepare_data.changes import Changes
from sella_rec.config import DataConfig
from sella_rec.data.dataset import SPLITS
from sella_rec.data.training_reference import iso

DETAILS_FILE = "report_details.json"
Details = dict[str, Any]
_WIDEST = 5
_TIME_BINS = 48
_MOST_VALUES = 40


def make_details(
    config: DataConfig, rows: pl.DataFrame, items: pl.DataFrame, ratings: pl.DataFrame, changes: Changes
) -> Details:
    """What `report_details.json` holds.

    Args:
        rows: user_id, item_id, timestamp, label, split, in any order.
        items: item_id, title.
        ratings: as `sum_counts` returns it.

    Returns:
        ratings: values (as read, before any is dropped) and rows; widest_users: user_id, rows, like_share;
        widest_items: item_id, title, rows, like_share; timeline: a list of equally long bins, each with from (ISO 8601
        UTC), train, valid, test (rows); repeated_rows: rows beyond the first of a user and an item, which
        `data.duplicates: all` keeps; and what `Changes.to_dict` returns.
    """
    widest_items = _widest(rows, "item_id").join(items, on="item_id", how="left", maintain_order="left")
    return {
        "ratings": ratings.to_dicts(),
        "widest_users": _widest(rows, "user_id").to_dicts(),
        "widest_items": widest_items.select("item_id", "title", "rows", "like_share").to_dicts(),
        "timeline": _timeline(rows["timestamp"].to_numpy(), rows["split"]),
        "repeated_rows": _repeated(rows) if config.duplicates == "all" else 0,
        **changes.to_dict(),
    }


def count_values(values: pl.Series, target: str) -> pl.DataFrame:
    """value (float64; of labels in words text) and rows, of a column of ratings or labels as read, empty ones left out.

    Numbers of more than a thousand kinds are rounded to two digits first.
    """
    counts = values.alias("value").value_counts(name="rows").drop_nulls("value")
    value = counts["value"]
    if value.dtype == pl.String:
        value = value.str.strip_chars()
    points = value.str.replace(",", ".", literal=True) if value.dtype == pl.String else value
    numbers = points.cast(pl.Float64, strict=False)
    if target == "label" and numbers.null_count():
        return counts.with_columns(value=value.cast(pl.String).str.to_lowercase())
    if counts.height > 1000:
        numbers = numbers.round_sig_figs(2)
    return counts.with_columns(value=numbers).drop_nulls("value").group_by("value").agg(pl.col("rows").sum())


def sum_counts(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """value and rows of all files, by value; more than forty values are put in bins, named by their lower end."""
    if len({part["value"].dtype for part in parts}) > 1:
        parts = [part.with_columns(pl.col("value").cast(pl.String)) for part in parts]
    counts = pl.concat(parts).drop_nulls("value").group_by("value").agg(pl.col("rows").sum())
    if counts.height <= _MOST_VALUES:
        return counts.sort("value")
    if counts["value"].dtype == pl.String:
        return counts.sort("rows", "value", descending=[True, False]).head(_MOST_VALUES)
    low, high = counts["value"].min(), counts["value"].max()
    width = _round_up((float(high) - float(low)) / _MOST_VALUES)  # type: ignore[arg-type]
    binned = counts.with_columns(value=((pl.col("value") / width).floor() * width).round_sig_figs(6))
    return binned.group_by("value").agg(pl.col("rows").sum()).sort("value")


def _round_up(width: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... and 0.1, 0.2, ..."""
    decade = 10.0 ** math.floor(math.log10(width))
    return next(step * decade for step in (1, 2, 5, 10) if step * decade >= width * (1 - 1e-9))


def _widest(rows: pl.DataFrame, field: str) -> pl.DataFrame:
    counted = rows.group_by(field).agg(rows=pl.len(), like_share=pl.col("label").mean().round(6))
    return counted.sort("rows", field, descending=[True, False]).head(_WIDEST)


def _timeline(timestamps: np.ndarray, splits: pl.Series) -> list[dict[str, Any]]:
    first = int(timestamps.min())
    seconds = max(1, -(-(int(timestamps.max()) + 1 - first) // _TIME_BINS))
    bins = (timestamps - first) // seconds
    counts = {name: np.bincount(bins[(splits == name).to_numpy()], minlength=_TIME_BINS) for name in SPLITS}
    used = int(bins.max()) + 1
    return [{"from": iso(first + n * seconds), **{name: int(counts[name][n]) for name in SPLITS}} for n in range(used)]


def _repeated(rows: pl.DataFrame) -> int:
    return rows.height - rows.select("user_id", "item_id").unique().height
