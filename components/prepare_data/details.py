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
_SAMPLE = 100_000


def make_details(
    config: DataConfig,
    rows: pl.DataFrame,
    items: pl.DataFrame,
    per_user: pl.DataFrame,
    per_item: pl.DataFrame,
    ratings: pl.DataFrame,
    changes: Changes,
) -> Details:
    """What `report_details.json` holds.

    Args:
        rows: user_id, item_id, timestamp, label, split.
        items: item_id, title.
        per_user, per_item: as `rows_per` returns them.
        ratings: as `sum_counts` returns it.

    Returns:
        ratings: values (as read, before any is dropped) and rows; widest_users: user_id, rows, like_share;
        widest_items: item_id, title, rows, like_share; timeline: a list of equally long bins, each with from (ISO 8601
        UTC), train, valid, test (rows); repeated_rows: rows beyond the first of a user and an item, which
        `data.duplicates: all` keeps; and what `Changes.to_dict` returns.
    """
    widest_items = _widest(rows, per_item).join(items, on="item_id", how="left", maintain_order="left")
    return {
        "ratings": ratings.to_dicts(),
        "widest_users": _widest(rows, per_user).to_dicts(),
        "widest_items": widest_items.select("item_id", "title", "rows", "like_share").to_dicts(),
        "timeline": _timeline(rows["timestamp"].to_numpy(), rows["split"]),
        "repeated_rows": _repeated(rows) if config.duplicates == "all" else 0,
        **changes.to_dict(),
    }


def count_values(values: pl.Series, target: str) -> pl.DataFrame:
    """value (float64; of labels in words text) and rows, of a column of ratings or labels as read, empty ones left out.

    Ratings of more than a thousand kinds are rounded to two digits.
    """
    many = values.head(_SAMPLE).n_unique() > 1000
    if many and target == "rating":
        # before they are counted: ten million different ones take long
        values = _numbers(values).round_sig_figs(2)
    counts = values.alias("value").value_counts(name="rows").drop_nulls("value")
    numbers = _numbers(counts["value"])
    if target == "label" and numbers.null_count():
        return counts.with_columns(pl.col("value").cast(pl.String).str.strip_chars().str.to_lowercase())
    return counts.with_columns(value=numbers).drop_nulls("value").group_by("value").agg(pl.col("rows").sum())


def _numbers(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        values = values.str.strip_chars().str.replace(",", ".", literal=True)
    return values.cast(pl.Float64, strict=False)


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


def rows_per(rows: pl.DataFrame, field: str) -> pl.DataFrame:
    """`field` and rows, of each user or item; `rows` are sorted by user."""
    if field == "user_id":
        return rows[field].rle().struct.unnest().select(pl.col("value").alias(field), pl.col("len").alias("rows"))
    return rows.group_by(field).agg(rows=pl.len())


def _widest(rows: pl.DataFrame, counted: pl.DataFrame) -> pl.DataFrame:
    field = counted.columns[0]
    widest = counted.sort("rows", field, descending=[True, False]).head(_WIDEST)
    theirs = rows.select(field, "label").filter(pl.col(field).is_in(widest[field].implode()))
    likes = theirs.group_by(field).agg(like_share=pl.col("label").mean().round(6))
    return widest.join(likes, on=field, how="left", maintain_order="left")


def _timeline(timestamps: np.ndarray, splits: pl.Series) -> list[dict[str, Any]]:
    first = int(timestamps.min())
    seconds = max(1, -(-(int(timestamps.max()) + 1 - first) // _TIME_BINS))
    bins = (timestamps - first) // seconds
    counts = {name: np.bincount(bins[(splits == name).to_numpy()], minlength=_TIME_BINS) for name in SPLITS}
    used = int(bins.max()) + 1
    return [{"from": iso(first + n * seconds), **{name: int(counts[name][n]) for name in SPLITS}} for n in range(used)]


def _repeated(rows: pl.DataFrame) -> int:
    # of 64 bits: among ten million pairs two that differ are one with a chance of 3 in a million
    pairs = rows.select((pl.col("user_id").hash(1) + pl.col("item_id").hash(2)).n_unique()).item()
    return rows.height - int(pairs)
