"""Parquet columns of every type are read, or refused with the column; what is not wanted does not matter."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from components.prepare_data.parquet import read_parquet
from components.prepare_data.table import Table
from sella_rec.data.errors import DataError

COLUMNS = {"user_id": "user", "item_id": "item_id", "title": "title", "timestamp": "timestamp"}
DIGITS = "12345678901234567890123456789012345678901234567890"


def read(columns: dict[str, pa.Array] | pa.Table) -> Table:
    sink = BytesIO()
    pa.parquet.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), sink)
    (table,) = read_parquet("r.parquet", sink.getvalue(), COLUMNS)
    return table


IDS = [
    (pa.array([Decimal("7"), Decimal("8")], pa.decimal128(38, 0)), [7, 8]),
    (pa.array([Decimal("12345678901234567890")], pa.decimal128(38, 0)), ["12345678901234567890"]),
    (pa.array([Decimal(DIGITS)], pa.decimal256(60, 0)), [DIGITS]),
    (pa.array([Decimal("7.50")], pa.decimal128(9, 2)), ["7.50"]),
    (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
    (pa.array(["é", None], pa.string_view()), ["é", None]),
    (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    (pa.array([5, 6, 5]).dictionary_encode(), [5, 6, 5]),
    (pa.array(["é".encode()], pa.large_binary()), ["é"]),
    (pa.array(["a"], pa.string()).cast(pa.large_string()), ["a"]),
    (pa.nulls(2), [None, None]),
    (pa.array([1.5], pa.float16()), [1.5]),
]


@pytest.mark.parametrize(("array", "expected"), IDS)
def test_types_of_identifiers(array: pa.Array, expected: list[object]) -> None:
    assert read({"item_id": array}).frame["item_id"].to_list() == expected


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "+05:30", "-08:00"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_with_a_zone_are_the_same_moment(unit: str, zone: str | None) -> None:
    moment = datetime(2020, 1, 1, 12, tzinfo=UTC if zone else None)
    values = read({"timestamp": pa.array([moment], pa.timestamp(unit, zone))}).frame["timestamp"]
    assert values.dt.epoch("s").to_list() == [1577880000]


def test_int96_after_the_end_of_nanoseconds() -> None:
    sink = BytesIO()
    moment = pa.table({"timestamp": pa.array([datetime(3000, 1, 1)], pa.timestamp("us"))})
    pa.parquet.write_table(moment, sink, use_deprecated_int96_timestamps=True)
    (table,) = read_parquet("r.parquet", sink.getvalue(), COLUMNS)
    assert table.frame["timestamp"].dt.year().to_list() == [3000]


REFUSED = [
    ("item_id", pa.array([[1, 2]]), r"r\.parquet, row 1, column 'item_id': contains List\(Int64\);.*got \[1, 2\]"),
    ("item_id", pa.array([{"a": 1}]), r"row 1, column 'item_id': contains Struct"),
    ("title", pa.array([[["a"]]]), r"column 'title': contains List\(List\(String\)\)"),
    ("item_id", pa.array([b"a", uuid.uuid4().bytes]), r"row 2, column 'item_id': holds bytes that are not UTF-8 text"),
    (
        "user",
        pa.array([uuid.UUID(int=2**127).bytes], pa.uuid()),
        r"row 1, column 'user': holds bytes that are not UTF-8 text",
    ),
]


@pytest.mark.parametrize(("name", "array", "message"), REFUSED)
def test_what_is_not_one_value_is_refused(name: str, array: pa.Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read({name: array})


def test_columns_that_are_not_wanted_may_be_anything() -> None:
    others = [
        pa.array([[("k", [1])]], pa.map_(pa.string(), pa.list_(pa.int64()))),
        pa.array([Decimal(1)], pa.decimal256(60)),
    ]
    others += [pa.array([{"item_id": 1}]), pa.array([None], pa.timestamp("s", "+05:30")), pa.array([["a"]])]
    names = ["map", "user.id", "nested", "later", "title"]
    table = read(pa.table([*others, pa.array(["x"])], names=[*names, "user"]))
    assert table.frame.to_dicts() == [{"user_id": "x", "title": ["a"]}]
    assert table.present == [*names, "user"]
    assert read(pa.table({"other": [1]})).frame.width == 0


def test_lists_as_titles_are_left_to_the_rules_of_titles() -> None:
    for array in (
        pa.array([["a", "b"]]),
        pa.array([["a", "b"]], pa.large_list(pa.string())),
        pa.array([["a", "b"]], pa.list_(pa.string(), 2)),
    ):
        assert read({"title": array}).frame["title"].to_list() == [["a", "b"]]


def test_columns_of_one_name() -> None:
    with pytest.raises(DataError, match="more than one column 'user'"):
        read(pa.table([pa.array([1]), pa.array([2])], names=["user", "user"]))


def test_a_file_that_is_cut_off() -> None:
    sink = BytesIO()
    pl.DataFrame({"user": range(100)}).write_parquet(sink)
    for end in (0, 3, 50, -1):
        with pytest.raises(DataError, match=r"r\.parquet: not a readable Parquet file"):
            list(read_parquet("r.parquet", sink.getvalue()[:end], COLUMNS))
