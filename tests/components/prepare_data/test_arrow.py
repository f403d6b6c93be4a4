"""Arrow's files in each of their forms are the same table, and damaged ones one error."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pytest

from components.prepare_data.read import read_tables
from sella_rec.data.errors import DataError

COLUMNS = {"user_id": "user_id", "item_id": "item", "rating": "rating"}
FRAME = pd.DataFrame({"user_id": ["a", "b", None], "item": [1, 2, 3], "rating": [4.0, 0.5, None], "more": [1, 2, 3]})


def write(path: Path, form: str) -> None:
    table = pa.Table.from_pandas(FRAME)
    if form == "dictionary":
        table = table.set_column(0, "user_id", table["user_id"].dictionary_encode())
    if form == "feather 1":
        pa.feather.write_feather(FRAME, path, version=1)
    elif form in ("lz4", "zstd"):
        pa.feather.write_feather(table, path, compression=form)
    elif form == "polars":
        pl.from_pandas(FRAME).write_ipc(path)
    else:
        opened = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
        with opened(str(path), table.schema) as sink:
            sink.write_table(table)


@pytest.mark.parametrize("form", ["file", "stream", "lz4", "zstd", "feather 1", "polars", "dictionary"])
@pytest.mark.parametrize("extension", ["arrow", "feather", "ipc"])
def test_every_form_is_the_same_table(tmp_path: Path, form: str, extension: str) -> None:
    path = tmp_path / f"r.{extension}"
    write(path, form)
    (table,) = read_tables(str(path), COLUMNS)
    assert table.frame.rows() == [("a", 1, 4.0), ("b", 2, 0.5), (None, 3, None)]
    assert table.present == ["user_id", "item", "rating", "more"]
    path.with_suffix(f".{extension}.gz").write_bytes(gzip.compress(path.read_bytes()))
    (packed,) = read_tables(f"{path}.gz", COLUMNS)
    assert packed.frame.equals(table.frame)


@pytest.mark.parametrize("form", ["file", "stream", "zstd"])
@pytest.mark.parametrize("kept", [0, 3, 100, -20])
def test_a_damaged_file_is_one_error(tmp_path: Path, form: str, kept: int) -> None:
    path = tmp_path / "r.arrow"
    write(path, form)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"r\.arrow: not a readable Arrow file: .*; write or copy it again"):
        list(read_tables(str(path), COLUMNS))


def test_a_column_that_comes_twice_is_an_error(tmp_path: Path) -> None:
    table = pa.table([pa.array([1]), pa.array([2])], names=["user_id", "user_id"])
    with pa.ipc.new_file(str(tmp_path / "r.arrow"), table.schema) as sink:
        sink.write_table(table)
    with pytest.raises(DataError, match=r"r\.arrow: more than one column 'user_id'"):
        list(read_tables(str(tmp_path / "r.arrow"), COLUMNS))
