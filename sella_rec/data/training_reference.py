"""The training reference: the interactions that a model knows, kept with it so that later ones can be compared.

`reference.parquet`: user_id, item_id (both text), timestamp (int64, Unix seconds), label (int8) of every row the model
knows, oldest first. It is rows, since what they are compared with decides how they are cut: a week with earlier weeks,
a month with earlier months. `reference.json`: the same in a few figures, for people. Titles are in `items.parquet`
beside them, in prepare-data's folder as in a bundle.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

ROWS_FILE, FIGURES_FILE = "reference.parquet", "reference.json"
REFERENCE_FILES = (ROWS_FILE, FIGURES_FILE)
_VALUES = ("timestamp", "label")
_WORD = r"\w+"
_WORDS = 50
_TOP_SHARES = (0.01, 0.1)
_QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Reference:
    """A model's training reference.

    Attributes:
        rows: user_id, item_id, timestamp, label, oldest first; ids are text, here and in titles.
        titles: item_id, title of its whole catalogue.
        figures: see `describe`.
    """

    rows: pl.DataFrame
    titles: pl.DataFrame
    figures: dict[str, Any]


def write_reference(folder: Path, rows: pl.DataFrame, items: pl.DataFrame) -> None:
    """Write both files.

    Args:
        rows: user_id, item_id, timestamp, label, split, in any order.
        items: item_id, title.
    """
    # a row's history is ten times as large as what is kept of it here
    kept = rows.select("user_id", "item_id", *_VALUES).sort("timestamp", maintain_order=True)
    kept = kept.with_columns(pl.col("user_id", "item_id").cast(pl.String))
    kept.write_parquet(folder / ROWS_FILE)
    (folder / FIGURES_FILE).write_text(json.dumps(describe(rows, items), indent=2, ensure_ascii=False) + "\n")


def load_reference(folder: Path) -> Reference:
    """Read prepare-data's folder or a bundle.

    Raises:
        FileNotFoundError: one of the three files is missing.
    """
    titles = pl.read_parquet(folder / "items.parquet", columns=["item_id", "title"])
    titles = titles.with_columns(pl.col("item_id").cast(pl.String))
    figures = json.loads((folder / FIGURES_FILE).read_text())
    return Reference(pl.read_parquet(folder / ROWS_FILE), titles, figures)


def describe(rows: pl.DataFrame, items: pl.DataFrame) -> dict[str, Any]:
    """The figures of `reference.json`.

    Args:
        rows: user_id, item_id, timestamp, label, split.
        items: item_id, title.

    Returns:
        rows, users, items: counts; from, until: ISO 8601 UTC; like_rate; unseen_users, unseen_items: shares of test's
        rows whose user or item does not occur in train; top_items: share of the rows of the most rated 1 and 10 % of
        the items; rows_per_user: deciles 1, 5 and 9; words: of rated titles, the 50 most frequent with their shares.
    """
    by_item = rows.group_by("item_id").len().sort("len", descending=True)
    by_user = rows.group_by("user_id").len()["len"]
    top = {f"{share:.0%}": by_item["len"].head(max(1, round(share * by_item.height))).sum() for share in _TOP_SHARES}
    spoken = words(by_item.join(items, on="item_id")).group_by("word").agg(pl.col("len").sum())
    frequent = spoken.sort("len", "word", descending=[True, False]).head(_WORDS)
    return {
        "rows": rows.height,
        "users": len(by_user),
        "items": by_item.height,
        "from": iso(rows["timestamp"].min()),
        "until": iso(rows["timestamp"].max()),
        "like_rate": _share(rows["label"]),
        **{f"unseen_{field}s": _unseen_share(rows, f"{field}_id") for field in ("user", "item")},
        "top_items": {name: round(count / rows.height, 6) for name, count in top.items()},
        "rows_per_user": {f"{q:.0%}": int(by_user.quantile(q, "nearest") or 0) for q in _QUANTILES},
        "words": {word: round(count / spoken["len"].sum(), 6) for word, count in frequent.iter_rows()},
    }


def words(titled: pl.DataFrame) -> pl.DataFrame:
    """A row for each word of each title, in lower case, as column `word` beside the other columns."""
    found = titled.with_columns(word=pl.col("title").str.to_lowercase().str.extract_all(_WORD))
    return found.drop("title").explode("word", empty_as_null=False)


def iso(seconds: Any) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unseen_share(rows: pl.DataFrame, field: str) -> float:
    train, test = (rows[field].filter(rows["split"] == name) for name in ("train", "test"))
    return _share(~test.is_in(train.unique().implode()))


def _share(flags: pl.Series) -> float:
    return round(float(flags.mean() or 0.0), 6)  # type: ignore[arg-type]
