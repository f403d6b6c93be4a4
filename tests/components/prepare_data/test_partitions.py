"""Columns that stand in the names of folders, as Spark and Hive write them, against pyarrow's own reader."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from components.prepare_data.read import read_tables

COLUMNS = {"user_id": "user", "item_id": "item", "rating": "rating"}
ROWS = pl.DataFrame(
    {"user": ["a b", "a b", "c/d", None, "ä%"], "item": [1, 2, 3, 4, 5], "rating": [1.0, 2.0, 3.0, 4.0, 5.0]}
)


@pytest.mark.parametrize("form", ["parquet", "csv", "feather"])
def test_partition_columns_are_columns(tmp_path: Path, form: str) -> None:
    table = ROWS.to_arrow().cast(pa.schema([("user", pa.string()), ("item", pa.int64()), ("rating", pa.float64())]))
    # pyarrow names a missing value as Hive does
    by = ds.partitioning(pa.schema([("user", pa.string()), ("item", pa.int64())]), flavor="hive")
    ds.write_dataset(table, tmp_path / "data", format=form, partitioning=by)
    tables = list(read_tables(str(tmp_path / "data"), COLUMNS))
    read = pl.concat([each.frame.cast({"rating": pl.Float64, "user_id": pl.String}) for each in tables]).sort("item_id")
    assert read.select("user_id", "item_id", "rating").rows() == ROWS.rows()
    assert all(set(each.present) == {"user", "item", "rating"} for each in tables)
    # a single file of it too
    (one,) = read_tables(str(next((tmp_path / "data").rglob(f"*.{form}"))), COLUMNS)
    assert one.frame.columns == ["rating", "user_id", "item_id"]


def test_a_column_of_the_file_itself_goes_before_and_007_stays_text(tmp_path: Path) -> None:
    folder = tmp_path / "item=9" / "user=007"
    folder.mkdir(parents=True)
    (folder / "r.csv").write_text("item,rating\n1,2\n3,4\n")
    (folder / "_SUCCESS").touch()
    (table,) = read_tables(str(tmp_path), COLUMNS)
    assert table.frame.select("user_id", "item_id", "rating").rows() == [("007", 1, 2), ("007", 3, 4)]
    assert table.notes[0] == "1 skipped for their names, . or _ first: _SUCCESS"
