"""The data report: one flat record of what was read, dropped and kept."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from sella_rec.addresses import without_password
from sella_rec.config import DataConfig
from sella_rec.data.dataset import SPLITS

Report = dict[str, int | float | str]


def make_report(config: DataConfig, counts: Report, rows: pl.DataFrame, items: pl.DataFrame) -> Report:
    """Counts of the whole and of each split; times as ISO 8601 UTC, lengths of titles in characters.

    Args:
        counts: what validation read and dropped.
        rows: user_id, item_id, timestamp, label, split, history, warm.
        items: item_id, title.
    """
    title_length = items["title"].str.len_chars()
    report: Report = {
        "interactions": without_password(config.interactions),
        "items": without_password(config.items),
        "split": config.split,
        **counts,
        "rows": rows.height,
        "users": rows["user_id"].n_unique(),
        "items_kept": items.height,
        "items_with_rows": rows["item_id"].n_unique(),
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
        "row_share": round(split.height / total, 6),
        "users": split["user_id"].n_unique(),
        "items": split["item_id"].n_unique(),
        "likes": int(split["label"].sum()),
        "like_share": _mean(split["label"]),
        "warm_rows": warm,
        "cold_rows": split.height - warm,
        "from": _iso(split["timestamp"].min()),
        "until": _iso(split["timestamp"].max()),
        "history_mean": _mean(lengths),
        "history_max": int(lengths.max() or 0),  # type: ignore[arg-type]
        "history_empty": int((lengths == 0).sum()),
    }


def _mean(values: pl.Series) -> float:
    return round(float(values.mean() or 0.0), 6)  # type: ignore[arg-type]


def _iso(seconds: object) -> str:
    return datetime.fromtimestamp(int(str(seconds)), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
