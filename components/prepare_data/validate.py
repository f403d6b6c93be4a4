"""The input contract as a whole: two clean frames and the count of everything that was dropped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from components.prepare_data import columns
from components.prepare_data.dialect import TextSettings
from components.prepare_data.embedded import PREFIX, read_embedded
from components.prepare_data.read import read_tables
from components.prepare_data.split import unix_seconds
from components.prepare_data.table import Table
from sella_rec.config import DataConfig
from sella_rec.data.errors import DataError
from sella_rec.data.named import resolve


@dataclass(frozen=True)
class CleanData:
    """What is left to train on.

    Attributes:
        rows: user_id, item_id (int64 or string), timestamp (int64, Unix seconds), label (int8, 1 a like); input order.
        items: item_id, title; one row an item, in input order.
        counts: rows read, and dropped by each rule.
    """

    rows: pl.DataFrame
    items: pl.DataFrame
    counts: dict[str, int | str]


def load(config: DataConfig) -> CleanData:
    """Read interactions and items, validate every value and apply the dropping rules.

    Raises:
        DataError: anything that the input contract does not allow.
    """
    config = resolve(config)
    items, item_counts, untitled = _load_items(config)
    rows, row_counts = _load_interactions(config)
    read = rows.height
    rows, items, untitled = _same_item_ids(rows, items, untitled)
    titled = rows.join(items, on="item_id", how="semi", maintain_order="left")
    if titled.is_empty():
        mine, theirs = rows["item_id"][0], items["item_id"][0]
        example = f"item_id {mine!r} there, {theirs!r} here"
        raise DataError(
            f"{config.items}: contains none of the items of {config.interactions} ({example}); "
            "check data.columns.item_id"
        )
    without_title = rows.join(untitled, on="item_id", how="semi").height
    active = _active(titled, config)
    kept = _last_of_each_pair(active) if config.duplicates == "newest" else active
    if config.catalogue == "with_rows":
        catalogue = items.join(kept, on="item_id", how="semi", maintain_order="left")
    else:
        catalogue = items
    counts: dict[str, int | str] = {
        **row_counts,
        "rows_item_without_title": without_title,
        "rows_item_unknown": read - titled.height - without_title,
        "rows_inactive": titled.height - active.height,
        "rows_duplicate": active.height - kept.height,
        **item_counts,
        "items_without_rows": items.height - catalogue.height,
    }
    return CleanData(kept, catalogue, counts)


def _tables(uri: str, names: Mapping[str, str], config: DataConfig, header: tuple[str, ...] | None) -> Iterable[Table]:
    if uri.startswith(PREFIX):
        return [read_embedded(uri, names)]
    return read_tables(uri, names, TextSettings(config.encoding, config.separator, header))


def _load_interactions(config: DataConfig) -> tuple[pl.DataFrame, dict[str, int | str]]:
    """Rows inside the window, and counts."""
    wanted = {field: name for field, name in config.columns.model_dump().items() if field != "title"}
    frames = []
    target = ""
    read = 0
    for table in _tables(config.interactions, wanted, config, config.interactions_header):
        table.require("user_id", "item_id", "timestamp")
        found = table.require_any("label", "rating")
        if target and found != target:
            fix = "all files need the same columns"
            raise DataError(f"{table.file}: has column '{found}' where earlier files have '{target}'; {fix}")
        target = found
        frame = pl.DataFrame(
            {
                "user_id": columns.ids(table, "user_id"),
                "item_id": columns.ids(table, "item_id"),
                "timestamp": columns.timestamps(table),
                "label": columns.labels(table, target, config.like_threshold),
            }
        )
        read += frame.height
        # table by table, so that a file larger than memory passes where the window is small
        frames.append(_in_window(frame, config))
    if not read:
        raise DataError(f"{config.interactions}: contains no rows")
    rows = _concat(frames)
    if rows.is_empty():
        window = f"from {config.window_from or 'the first'} until {config.window_until or 'the last'}"
        fix = "check data.window_from and data.window_until"
        raise DataError(f"{config.interactions}: none of its {read} rows is in the window {window}; {fix}")
    return rows, {"target": target, "rows_read": read, "rows_outside_window": read - rows.height}


def _in_window(rows: pl.DataFrame, config: DataConfig) -> pl.DataFrame:
    if config.window_from is not None:
        rows = rows.filter(pl.col("timestamp") >= unix_seconds(config.window_from))
    if config.window_until is not None:
        rows = rows.filter(pl.col("timestamp") < unix_seconds(config.window_until))
    return rows


def _active(rows: pl.DataFrame, config: DataConfig) -> pl.DataFrame:
    """Rows of users and of items with enough rows; both are counted before either is dropped."""
    enough_of_user = pl.len().over("user_id") >= config.min_user_rows
    enough_of_item = pl.len().over("item_id") >= config.min_item_rows
    active = rows.filter(enough_of_user & enough_of_item)
    if active.is_empty():
        wanted = f"a user with {config.min_user_rows} rows and an item with {config.min_item_rows}"
        fix = "lower data.min_user_rows or data.min_item_rows"
        raise DataError(f"{config.interactions}: none of its {rows.height} rows is of {wanted}; {fix}")
    return active


def _load_items(config: DataConfig) -> tuple[pl.DataFrame, dict[str, int], pl.DataFrame]:
    """Titled items, counts, and the item_ids that have no title in any row."""
    names = config.columns.model_dump()
    frames = []
    cleaned = 0
    wanted = {field: names[field] for field in ("item_id", "title")}
    for table in _tables(config.items, wanted, config, config.items_header):
        table.require("item_id", "title")
        titles = columns.titles(table, config.reject_title)
        cleaned += int((titles != table.frame["title"].cast(pl.String)).sum())
        frames.append(pl.DataFrame({"item_id": columns.ids(table, "item_id"), "title": titles}))
    items = _concat(frames)
    titled = items.drop_nulls("title")
    if titled.is_empty():
        raise DataError(f"{config.items}: no item has a title in column '{names['title']}'; check data.columns.title")
    kept = titled.unique("item_id", keep="last", maintain_order=True)
    untitled = items.join(kept, on="item_id", how="anti").select("item_id").unique()
    counts = {
        "items_read": items.height,
        "items_without_title": untitled.height,
        "items_duplicate": items.height - kept.height - untitled.height,
        "items_title_cleaned": cleaned,
    }
    return kept, counts, untitled


def _concat(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """One frame; identifiers become strings where any file has strings."""
    for field in ("user_id", "item_id"):
        if any(field in frame.columns and frame[field].dtype == pl.String for frame in frames):
            frames = [frame.with_columns(pl.col(field).cast(pl.String)) for frame in frames]
    return pl.concat(frames)


def _same_item_ids(*frames: pl.DataFrame) -> list[pl.DataFrame]:
    if len({frame["item_id"].dtype for frame in frames}) == 1:
        return list(frames)
    return [frame.with_columns(pl.col("item_id").cast(pl.String)) for frame in frames]


def _last_of_each_pair(rows: pl.DataFrame) -> pl.DataFrame:
    """The newest row of each (user, item), of equally new ones the last; in the order of `rows`."""
    numbered = rows.with_row_index("row").sort("timestamp", maintain_order=True)
    last = numbered.unique(["user_id", "item_id"], keep="last", maintain_order=True)
    return last.sort("row").drop("row")
