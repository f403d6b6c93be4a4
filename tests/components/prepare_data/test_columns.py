"""The columns over whole files of any format: the same values are the same, and what is missing is left out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare_data.changes import Changes
from components.prepare_data.columns import Columns
from components.prepare_data.validate import CleanData, load
from sella_rec.config import DataConfig
from sella_rec.data.errors import DataError
from tests.components.prepare_data.tables import NAMES, table

Writer = Callable[[Path, pl.DataFrame], None]


def _csv(folder: Path, frame: pl.DataFrame) -> None:
    frame.write_csv(folder / "rows.csv")


def _json(folder: Path, frame: pl.DataFrame) -> None:
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in frame.iter_rows(named=True)))


def _parquet(folder: Path, frame: pl.DataFrame) -> None:
    frame.write_parquet(folder / "rows.parquet")


FORMATS: list[Writer] = [_csv, _json, _parquet]
RENDERINGS: list[Callable[[pl.Series], pl.Series]] = [
    lambda ids: ids,
    lambda ids: ids.cast(pl.Int32),
    lambda ids: ids.cast(pl.Float64),
    lambda ids: ids.cast(pl.String),
    lambda ids: ids.cast(pl.Float64).cast(pl.String),
    lambda ids: " " + ids.cast(pl.String) + "\u00a0",
    lambda ids: ids.cast(pl.String) + "\u200b",
    lambda ids: "'" + ids.cast(pl.String) + "'",
    lambda ids: '="' + ids.cast(pl.String) + '"',
]
MADE = st.tuples(st.sampled_from(FORMATS), st.sampled_from(RENDERINGS), st.sampled_from(RENDERINGS))


def frame_of(user: Any, item: Any, time: int) -> pl.DataFrame:
    ids = {"user_id": user(pl.Series([7, 8, 9])), "item_id": item(pl.Series([1, 2, 3]))}
    return pl.DataFrame({**ids, "rating": [5, 1, 4], "timestamp": [time, time + 1, time + 2]})


@settings(max_examples=30, deadline=None)
@given(st.lists(MADE, min_size=1, max_size=3), MADE)
def test_whatever_the_format_and_type_it_is_the_same_user_and_item(
    files: list[tuple[Writer, Any, Any]], items: tuple[Writer, Any, Any]
) -> None:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for number, (write, user, item) in enumerate(files):
            part = folder / "rows" / str(number)
            part.mkdir(parents=True)
            write(part, frame_of(user, item, 964982703 + number))
        (folder / "items").mkdir()
        titles = pl.DataFrame({"item_id": items[1](pl.Series([1, 2, 3])), "title": ["One", "Two", "Three"]})
        items[0](folder / "items", titles)
        config = {"interactions": str(folder / "rows"), "items": str(folder / "items"), "duplicates": "all"}
        clean = load(DataConfig.model_validate(config))
    assert clean.rows["user_id"].to_list() == [7, 8, 9] * len(files)
    assert clean.rows["item_id"].to_list() == [1, 2, 3] * len(files)
    assert clean.items["item_id"].to_list() == [1, 2, 3]


MISSING_ROWS = {
    "user_id": ["7", "NA", "8", "9", "10", "11"],
    "item_id": ["1", "1", "null", "1", "1", "2"],
    "timestamp": ["964982703", "964982703", "964982703", "-", "964982704", "964982705"],
    "rating": ["5", "5", "5", "5", "\\N", "1"],
}


@pytest.mark.parametrize("write", FORMATS)
def test_rows_with_a_missing_value_are_an_error_or_dropped_and_counted(write: Writer, tmp_path: Path) -> None:
    def loaded(**more: Any) -> CleanData:
        config = {"interactions": str(tmp_path / "rows"), "items": str(tmp_path / "items.csv"), **more}
        return load(DataConfig.model_validate(config))

    (tmp_path / "rows").mkdir()
    write(tmp_path / "rows", pl.DataFrame(MISSING_ROWS))
    (tmp_path / "items.csv").write_text("item_id,title\n1,One\n2,N/A\nnan,Nothing\n")
    with pytest.raises(DataError, match=r"items\.csv, row 4, column 'item_id': .* --set data.missing_rows=drop"):
        loaded()
    clean = loaded(missing_rows="drop")
    assert clean.rows.select("user_id", "item_id").rows() == [(7, 1)]
    counts = {name: clean.counts[name] for name in ("rows_read", "rows_missing", "items_read", "items_missing")}
    assert counts == {"rows_read": 6, "rows_missing": 4, "items_read": 3, "items_missing": 1}
    assert (clean.counts["rows_item_without_title"], clean.counts["rows_outside_window"]) == (1, 0)
    rules = {(change["field"], change["rule"]): change["rows"] for change in clean.changes.to_dict()["changes"]}
    fields = ("user_id", "item_id", "timestamp", "rating", "title")
    assert rules == {(field, "missing"): 2 if field == "item_id" else 1 for field in fields}


def test_words_that_are_values_stay(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("user_id,item_id,rating,timestamp\nnull,1,5,964982703\n")
    (tmp_path / "items.csv").write_text("item_id,title\n1,None\n")
    config = {"interactions": str(tmp_path / "rows.csv"), "items": str(tmp_path / "items.csv"), "missing": []}
    clean = load(DataConfig.model_validate(config))
    assert (clean.rows["user_id"].to_list(), clean.items["title"].to_list()) == (["null"], ["None"])


def test_nothing_but_missing_values(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("user_id,item_id,rating,timestamp\n,1,5,964982703\n")
    (tmp_path / "items.csv").write_text("item_id,title\n1,One\n")
    config = {"interactions": str(tmp_path / "rows.csv"), "items": str(tmp_path / "items.csv"), "missing_rows": "drop"}
    with pytest.raises(DataError, match=r"rows\.csv: a user_id, item_id, timestamp or rating is missing in every row"):
        load(DataConfig.model_validate(config))


def test_one_configuration_reads_all_columns() -> None:
    columns = Columns(DataConfig(like_threshold=3.0), Changes())
    frame = pl.DataFrame({"user_id": ["1.0"], "item_id": [" a"], "timestamp": [964982703000], "rating": ["3,5"]})
    made = table("user_id", [1])
    rows = columns.interactions(type(made)("r.csv", frame, NAMES, list(NAMES.values()), 2), "rating")
    assert rows.rows() == [(1, "a", 964982703, 1)]
    assert rows.schema == {"user_id": pl.Int64, "item_id": pl.String, "timestamp": pl.Int64, "label": pl.Int8}
    columns.tell()
    told = columns.changes.to_dict()
    assert told["notes"] == {"r.csv": ["times: Unix milliseconds (recognized); from 2000-07-30 to 2000-07-30"]}
    assert [change["rule"] for change in told["changes"]] == [
        "integers written as floats",
        "white space",
        "decimal commas",
    ]
