"""The input contract as a whole: two clean frames and the count of everything that was dropped."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from components.prepare_data.changes import Changes
from components.prepare_data.columns import Columns
from components.prepare_data.details import count_values, sum_counts
from components.prepare_data.dialect import TextSettings
from components.prepare_data.drops import drops_told
from components.prepare_data.embedded import PREFIX, read_embedded
from components.prepare_data.read import read_tables
from components.prepare_data.split import unix_seconds
from components.prepare_data.table import Table
from sella_rec.config import DataConfig
from sella_rec.data.errors import DataError
from sella_rec.data.named import resolve
from sella_rec.data.training_reference import iso

Counts = dict[str, int | str]


@dataclass(frozen=True)
class CleanData:
    """What is left to train on.

    Attributes:
        rows: user_id, item_id (int64 or string), timestamp (int64, Unix seconds), label (int8, 1 a like); input order.
        items: item_id, title; one row an item, in input order.
        counts: rows read, and dropped by each rule.
        ratings: value (as read) and rows; see `details.sum_counts`.
        changes: what rules changed in the values.
    """

    rows: pl.DataFrame
    items: pl.DataFrame
    counts: Counts
    ratings: pl.DataFrame
    changes: Changes


def load(config: DataConfig) -> CleanData:
    """Read interactions and items, validate every value and apply the dropping rules.

    Raises:
        DataError: anything that the input contract does not allow.
    """
    config = resolve(config)
    changes = Changes()
    items, item_counts, untitled = _load_items(config, changes)
    rows, counts, ratings = _load_interactions(config, changes)
    rows, items, untitled = _same_item_ids(rows, items, untitled)
    with drops_told(counts):
        titled = _titled(rows, items, untitled, config, counts)
        active = _active(titled, config)
    kept = _last_of_each_pair(active) if config.duplicates == "newest" else active
    if config.catalogue == "with_rows":
        catalogue = items.join(kept, on="item_id", how="semi", maintain_order="left")
    else:
        catalogue = items
    counts |= {
        "rows_inactive": titled.height - active.height,
        "rows_duplicate": active.height - kept.height,
        **item_counts,
        "items_without_rows": items.height - catalogue.height,
    }
    return CleanData(kept, catalogue, counts, ratings, changes)


def _titled(
    rows: pl.DataFrame, items: pl.DataFrame, untitled: pl.DataFrame, config: DataConfig, counts: Counts
) -> pl.DataFrame:
    """Rows of items that have a title; what is dropped goes into `counts`."""
    titled = rows.join(items, on="item_id", how="semi", maintain_order="left")
    without_title = rows.join(untitled, on="item_id", how="semi").height
    counts["rows_item_without_title"] = without_title
    counts["rows_item_unknown"] = rows.height - titled.height - without_title
    if titled.is_empty():
        there, here = (_some(frame["item_id"]) for frame in (rows, items))
        raise DataError(
            f"{config.items}: contains none of the items of {config.interactions} (item_id {there} there, {here} "
            "here); name a column that both files have: --set data.columns.item_id=NAME"
        )
    return titled


def _some(ids: pl.Series) -> str:
    return ", ".join(map(repr, ids.head(1000).unique(maintain_order=True)[:3]))


def _tables(uri: str, names: Mapping[str, str], config: DataConfig, header: tuple[str, ...] | None) -> Iterable[Table]:
    if uri.startswith(PREFIX):
        return [read_embedded(uri, names)]
    return read_tables(uri, names, TextSettings(config.encoding, config.separator, header))


def _load_interactions(config: DataConfig, changes: Changes) -> tuple[pl.DataFrame, Counts, pl.DataFrame]:
    """Rows inside the window, counts, and how many rows have each rating or label."""
    names = config.columns.model_dump()
    wanted = {field: names[field] for field in ("user_id", "item_id", "timestamp", "label", "rating")}
    columns = Columns(config, changes)
    frames, values, times = [], [], []
    target = ""
    read = 0
    for table in _tables(config.interactions, wanted, config, config.interactions_header):
        table.require("user_id", "item_id", "timestamp")
        for note in table.notes:
            changes.note(table.file, note)
        found = table.require_any("label", "rating")
        if target and found != target:
            fix = "all files need the same columns"
            raise DataError(f"{table.file}: has column '{found}' where earlier files have '{target}'; {fix}")
        target = found
        frame = columns.interactions(table, target)
        read += table.frame.height
        values.append(count_values(table.frame[target], target))
        times += [frame["timestamp"].min(), frame["timestamp"].max()]
        # table by table, so that a file larger than memory passes where the window is small
        frames.append(_in_window(frame, config))
    columns.tell()
    if read and read == columns.rows_missing:
        raise DataError(f"{config.interactions}: a user_id, item_id, timestamp or {target} is missing in every row")
    if not read:
        raise DataError(f"{config.interactions}: contains no rows")
    rows = _concat(frames)
    if rows.is_empty():
        raise DataError(f"{config.interactions}: none of its {read:,} rows is in the window {_window(config, times)}")
    counts: Counts = {
        "target": target,
        "rows_read": read,
        "rows_missing": columns.rows_missing,
        "rows_outside_window": read - columns.rows_missing - rows.height,
    }
    return rows, counts, sum_counts(values)


def _window(config: DataConfig, times: list[Any]) -> str:
    """The window, the times that the rows have, and the window that holds them all."""
    known = [int(time) for time in times if time is not None]
    first, last = iso(min(known)), iso(max(known))
    all_of_it = {"window_from": first, "window_until": iso(max(known) + 1)}
    set_ones = {name: wide for name, wide in all_of_it.items() if getattr(config, name) is not None}
    fix = " ".join(f"--set data.{name}={wide}" for name, wide in set_ones.items())
    window = f"from {config.window_from or 'the first'} until {config.window_until or 'the last'}"
    return f"{window}; they are from {first} to {last}, use {fix}"


def _in_window(rows: pl.DataFrame, config: DataConfig) -> pl.DataFrame:
    if config.window_from is not None:
        rows = rows.filter(pl.col("timestamp") >= unix_seconds(config.window_from))
    if config.window_until is not None:
        rows = rows.filter(pl.col("timestamp") < unix_seconds(config.window_until))
    return rows


def _active(rows: pl.DataFrame, config: DataConfig) -> pl.DataFrame:
    """Rows of users and of items with enough rows; both are counted before either is dropped."""
    if config.min_user_rows == config.min_item_rows == 1:
        return rows
    enough_of_user = pl.len().over("user_id") >= config.min_user_rows
    enough_of_item = pl.len().over("item_id") >= config.min_item_rows
    active = rows.filter(enough_of_user & enough_of_item)
    if active.is_empty():
        wanted = f"a user with {config.min_user_rows} rows and an item with {config.min_item_rows}"
        raise DataError(
            f"{config.interactions}: none of its {rows.height:,} rows is of {wanted}; {_lower_limits(rows, config)}"
        )
    return active


def _lower_limits(rows: pl.DataFrame, config: DataConfig) -> str:
    """The limits that the row comes closest to, as settings."""
    of_user, of_item = pl.len().over("user_id"), pl.len().over("item_id")
    near = pl.min_horizontal(of_user / config.min_user_rows, of_item / config.min_item_rows)
    best = rows.select(near=near, users=of_user, items=of_item).sort("near", descending=True).row(0, named=True)
    limits = {"min_user_rows": best["users"], "min_item_rows": best["items"]}
    lower = {name: rows for name, rows in limits.items() if rows < getattr(config, name)}
    return "use " + " ".join(f"--set data.{name}={rows}" for name, rows in lower.items())


def _load_items(config: DataConfig, changes: Changes) -> tuple[pl.DataFrame, dict[str, int], pl.DataFrame]:
    """Titled items, counts, and the item_ids that have no title in any row."""
    names = config.columns.model_dump()
    columns = Columns(config, changes)
    frames = []
    wanted = {field: names[field] for field in ("item_id", "title")}
    for table in _tables(config.items, wanted, config, config.items_header):
        table.require("item_id", "title")
        for note in table.notes:
            changes.note(table.file, note)
        frames.append(columns.items(table))
    items = _concat(frames)
    titled = items.drop_nulls("title")
    if titled.is_empty():
        what = f"none of its {items.height:,} rows has a title in column '{names['title']}'"
        raise DataError(f"{config.items}: {what}; {_other_title(table, config)}")
    kept = titled.unique("item_id", keep="last", maintain_order=True)
    untitled = items.join(kept, on="item_id", how="anti").select("item_id").unique()
    counts = {
        "items_read": items.height + columns.items_missing,
        "items_missing": columns.items_missing,
        "items_without_title": untitled.height,
        "items_duplicate": items.height - kept.height - untitled.height,
        "items_title_cleaned": columns.titles_cleaned,
    }
    return kept, counts, untitled


def _other_title(table: Table, config: DataConfig) -> str:
    if config.reject_title and table.frame["title"].drop_nulls().len():
        return f"data.reject_title is {config.reject_title!r}: choose a text that titles do not hold"
    others = [name for name in table.present if name not in table.columns.values()]
    fix = f"use --set {shlex.quote(f'data.columns.title={others[0]}')}" if others else "add a column of titles"
    return f"{fix} (columns: {', '.join(table.present)})"


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
    repeated = rows.select("user_id", "item_id").is_duplicated()
    # few are, and sorting all of them takes longer than finding those
    numbered = rows.with_row_index("row").filter(repeated).sort("timestamp", maintain_order=True)
    last = numbered.unique(["user_id", "item_id"], keep="last")
    kept = (~repeated).to_numpy(writable=True)
    kept[last["row"].to_numpy()] = True
    return rows.filter(pl.Series(kept))
