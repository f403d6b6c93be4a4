"""Train, valid and test by time, and what each row may know: its history and whether it is warm."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pyarrow as pa

from sella_rec.config import HALF, DataConfig
from sella_rec.data.dataset import SPLITS
from sella_rec.data.errors import DataError
from sella_rec.data.training_reference import iso

MIN_ROWS = 3
_CHUNK_ROWS = 1 << 20


def split_rows(rows: pl.DataFrame, config: DataConfig, ratings: pl.DataFrame | None = None) -> pl.DataFrame:
    """Sort by (user_id, timestamp, input order) and add `split`, `history` and `warm`.

    Args:
        rows: user_id, item_id, timestamp (int64, Unix seconds), label (int8), in input order.
        ratings: value and rows, if labels are made from ratings: for the error, which names a better threshold.

    Returns:
        The same rows with `split` (train, valid or test), `history` (list of item_id, oldest first: at most
        `history_length` items the user liked strictly before the row's timestamp, whatever split they fell into; with
        `include_same_timestamp` before the row itself in the order above)
        and `warm` (user and item both occur in train).

    Raises:
        DataError: a split is empty or has one class only.
    """
    rows = rows.sort("user_id", "timestamp", maintain_order=True)
    split = _by_user(config) if config.split == "per_user" else _by_time(rows["timestamp"], config)
    rows = rows.with_columns(split=split)
    for name in SPLITS:
        _check(rows, name, config, ratings)
    in_train = pl.col("split") == "train"
    warm = in_train.any().over("user_id") & in_train.any().over("item_id")
    return rows.with_columns(warm=warm, history=histories(rows, config.history_length, config.include_same_timestamp))


def _by_user(config: DataConfig) -> pl.Expr:
    rows = pl.len().over("user_id")
    from_end = rows - pl.int_range(pl.len()).over("user_id")
    test, valid = (_share(rows, fraction) for fraction in (config.test_fraction, config.valid_fraction))
    return (
        pl.when((rows < MIN_ROWS) | (from_end > test + valid))
        .then(pl.lit("train"))
        .when(from_end > test)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("test"))
    )


def _share(rows: pl.Expr, fraction: float) -> pl.Expr:
    # the tiny addition keeps 0.29 * 100 = 28.999999999999996 from flooring to 28
    return (rows * fraction + 1e-9).floor().cast(pl.Int64).clip(lower_bound=1)


def _by_time(timestamps: pl.Series, config: DataConfig) -> pl.Expr | pl.Series:
    if config.valid_from is not None and config.test_from == HALF:
        return _newer_half_is_test(timestamps, unix_seconds(config.valid_from))
    if config.valid_from is not None and config.test_from is not None:
        valid_from, test_from = (unix_seconds(text) for text in (config.valid_from, config.test_from))
    else:
        newest = timestamps.sort(descending=True)
        test = max(1, int(len(newest) * config.test_fraction + 1e-9))
        valid = max(1, int(len(newest) * config.valid_fraction + 1e-9))
        test_from, valid_from = newest[test - 1], newest[min(test + valid, len(newest)) - 1]
    return (
        pl.when(pl.col("timestamp") < valid_from)
        .then(pl.lit("train"))
        .when(pl.col("timestamp") < test_from)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("test"))
    )


def _newer_half_is_test(timestamps: pl.Series, valid_from: float) -> pl.Series:
    """By number of rows, as in the papers: rows of one second may be split, in the order of `timestamps`."""
    split = np.full(len(timestamps), "train", dtype=object)
    order = np.argsort(timestamps.to_numpy(), kind="stable")
    later = order[np.searchsorted(timestamps.to_numpy()[order], valid_from) :]
    split[later[: len(later) // 2]] = "valid"
    split[later[len(later) // 2 :]] = "test"
    return pl.Series(split, dtype=pl.String)


def unix_seconds(text: str) -> float:
    """Of an ISO 8601 moment, UTC where it names no zone."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _check(rows: pl.DataFrame, name: str, config: DataConfig, ratings: pl.DataFrame | None) -> None:
    split = rows.filter(pl.col("split") == name)
    if split.is_empty():
        what = f"the {name} split is empty ({rows.height:,} rows in all, data.split is {config.split})"
        raise DataError(f"{config.interactions}: {what}; {_fill(rows, config)}")
    if split["label"].n_unique() == 1:
        what = "likes" if split["label"][0] else "dislikes"
        raise DataError(
            f"{config.interactions}: all {split.height:,} rows of the {name} split are {what}, and training needs "
            f"both; a like is a rating >= {config.like_threshold:g} (data.like_threshold) or label 1; "
            f"{_both_classes(rows, ratings, config)}"
        )


def _fill(rows: pl.DataFrame, config: DataConfig) -> str:
    """How no split is empty."""
    moments = rows["timestamp"].unique().sort()
    if config.split == "per_user":
        fix = f"it needs users with at least {MIN_ROWS} rows"
        return f"{fix}, or --set data.split=by_time" if len(moments) >= len(SPLITS) else fix
    if len(moments) < len(SPLITS):
        return "it needs rows of at least three different times, or --set data.split=per_user"
    valid = min(int(len(moments) * 0.8), len(moments) - 2)
    test = min(max(int(len(moments) * 0.9), valid + 1), len(moments) - 1)
    return f"use --set data.valid_from={iso(moments[valid])} --set data.test_from={iso(moments[test])}"


def _both_classes(rows: pl.DataFrame, ratings: pl.DataFrame | None, config: DataConfig) -> str:
    """How every split has likes and dislikes."""
    likes = float(rows["label"].mean())  # type: ignore[arg-type]
    if 0 < likes < 1:
        return f"{likes:.0%} of all rows are likes: a larger split, or another data.split, may hold both"
    if ratings is None or ratings.height < 2 or not ratings["value"].dtype.is_numeric():
        return "the input has one kind only: add rows of the other"
    share = pl.col("rows").cum_sum() / pl.col("rows").sum()
    # the lowest value would make a like of every row
    values = ratings.sort("value", descending=True).with_columns(near=(share - 0.5).abs())[:-1]["value", "near"]
    low, high, middle = ratings["value"].min(), ratings["value"].max(), values.sort("near")["value"][0]
    return f"ratings there are from {low!s} to {high!s}, use --set data.like_threshold={middle!s}"


def histories(rows: pl.DataFrame, length: int, same_second: bool = False) -> pl.Series:
    """For each row the last `length` items its user liked strictly before its timestamp, oldest first.

    Args:
        rows: user_id, item_id, timestamp, label; sorted by user_id, timestamp.
        same_second: likes of the same timestamp in rows above count too.
    """
    user = rows["user_id"].rle_id().to_numpy()
    time = rows["timestamp"].to_numpy()
    label = rows["label"].to_numpy().astype(np.int64)
    first_of_user = np.diff(user, prepend=-1) != 0
    first_of_tie = first_of_user | (np.diff(time, prepend=time[:1]) != 0)
    likes_before = np.cumsum(label) - label
    end = likes_before if same_second else likes_before[_last_true(first_of_tie)]
    start = np.maximum(end - length, likes_before[_last_true(first_of_user)])
    liked = rows["item_id"].filter(rows["label"] == 1)
    # in chunks, because ten int64 positions a row are the most memory that this step needs
    chunks = [slice(at, at + _CHUNK_ROWS) for at in range(0, len(user), _CHUNK_ROWS)]
    return pl.concat([_slices(liked, start[chunk], end[chunk]) for chunk in chunks]).rename("history")


def _last_true(flags: np.ndarray) -> np.ndarray:
    """For each position the nearest one at or before it whose flag is set."""
    return np.maximum.accumulate(np.where(flags, np.arange(len(flags)), 0))


def _slices(values: pl.Series, start: np.ndarray, end: np.ndarray) -> pl.Series:
    """The list column of values[start[r]:end[r]]."""
    offsets = np.concatenate([[0], np.cumsum(end - start)])
    positions = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], end - start)
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), values.gather(positions).to_arrow())
    return pl.Series(pl.from_arrow(lists))
