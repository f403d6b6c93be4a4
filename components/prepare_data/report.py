"""The data report: one flat record of what was read, dropped and kept."""

from __future__ import annotations

import polars as pl

from sella_rec.addresses import without_password
from sella_rec.config import DataConfig
from sella_rec.data.dataset import SPLITS
from sella_rec.data.training_reference import iso

Report = dict[str, int | float | str]
# Rules by which rows and items are dropped, in their order: how to say it, and the setting that decides, if one does.
DROPPED = {
    "rows_missing": ("with a missing value", "data.missing_rows"),
    "rows_outside_window": ("outside the window", "data.window_from, data.window_until"),
    "rows_item_without_title": ("of items without a title", ""),
    "rows_item_unknown": ("of items that the items table lacks", ""),
    "rows_inactive": ("of users or items with too few rows", "data.min_user_rows, data.min_item_rows"),
    "rows_duplicate": ("older ones of the same user and item", "data.duplicates"),
    "items_missing": ("without an item_id", "data.missing_rows"),
    "items_without_title": ("without a title", "data.reject_title"),
    "items_duplicate": ("further rows of the same item", ""),
    "items_without_rows": ("without a row", "data.catalogue"),
}


def make_report(
    config: DataConfig, counts: Report, rows: pl.DataFrame, items: pl.DataFrame, users: int, items_with_rows: int
) -> Report:
    """Counts of the whole and of each split; times as ISO 8601 UTC, lengths of titles in characters.

    Args:
        counts: what validation read and dropped.
        rows: user_id, item_id, timestamp, label, split, history, warm.
        items: item_id, title.
        users, items_with_rows: how many occur in `rows`.
    """
    known = float(counts["items_read"]) - float(counts["items_missing"]) - float(counts["items_duplicate"])
    title_length = items["title"].str.len_chars()
    report: Report = {
        "interactions": without_password(config.interactions),
        "items": without_password(config.items),
        "split": config.split,
        **counts,
        "items_without_title_share": _share(counts["items_without_title"], known),
        "rows": rows.height,
        "users": users,
        "items_kept": items.height,
        "items_with_rows": items_with_rows,
        "like_share": _mean(rows["label"]),
        "title_characters_mean": _mean(title_length),
        "title_characters_p95": int(title_length.quantile(0.95, "nearest") or 0),
        "title_characters_max": int(title_length.max() or 0),  # type: ignore[arg-type]
    }
    for name in SPLITS:
        split = rows.filter(pl.col("split") == name)
        report |= {f"{name}_{key}": value for key, value in _split_report(split, rows.height).items()}
    return report


def _split_report(split: pl.DataFrame, total: int) -> Report:
    lengths = split["history"].list.len()
    warm = int(split["warm"].sum())
    return {
        "rows": split.height,
        "row_share": _share(split.height, total),
        "users": split["user_id"].n_unique(),
        "items": split["item_id"].n_unique(),
        "likes": int(split["label"].sum()),
        "like_share": _mean(split["label"]),
        "warm_rows": warm,
        "warm_share": _share(warm, split.height),
        "cold_rows": split.height - warm,
        "cold_share": _share(split.height - warm, split.height),
        "from": iso(split["timestamp"].min()),
        "until": iso(split["timestamp"].max()),
        "history_mean": _mean(lengths),
        "history_max": int(lengths.max() or 0),  # type: ignore[arg-type]
        "history_empty": int((lengths == 0).sum()),
    }


def _share(part: int | float | str, whole: int | float | str) -> float:
    return round(float(part) / float(whole), 6) if whole else 0.0


def _mean(values: pl.Series) -> float:
    return round(float(values.mean() or 0.0), 6)  # type: ignore[arg-type]
