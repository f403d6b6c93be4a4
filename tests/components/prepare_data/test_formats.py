"""The same two tables in every format, dialect and encoding give the same clean data."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from components.prepare_data.validate import CleanData, load
from sella_rec.config import DataConfig

RATINGS = pl.DataFrame(
    {
        "user_id": [7, 7, 8, 8, 9],
        "item_id": ["B01", "B02", "B01", "b,03", "B02"],
        "rating": [5.0, 3.5, 0.5, 4.0, 4.5],
        "timestamp": [964982703, 964982931, 1288834974, 1288835000, 1700000000],
        "more": ["a", "b", "", 'say "c"', "d"],
    }
)
ITEMS = pl.DataFrame(
    {"item_id": ["B01", "B02", "b,03"], "title": ["Misérables, Les", "Garçon!", 'Vie "rêvée" des anges; La']}
)
Writer = Callable[[pl.DataFrame], bytes]


def delimited(separator: str = ",", encoding: str = "utf-8", newline: str = "\n", quotes: bool = False) -> Writer:
    def write(frame: pl.DataFrame) -> bytes:
        style = "always" if quotes else "necessary"
        text = frame.write_csv(separator=separator, line_terminator=newline, quote_style=style)
        return text.encode(encoding)

    return write


def double_colon(frame: pl.DataFrame) -> bytes:
    lines = [frame.columns, *(map(str, row) for row in frame.rows())]
    return "".join("::".join(line) + "\n" for line in lines).encode()


def decimal_comma(frame: pl.DataFrame) -> bytes:
    return frame.write_csv(separator=";", decimal_comma=True).encode()


def arrow_file(frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.write_ipc(buffer)
    return buffer.getvalue()


def arrow_stream(frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()


def recbole(frame: pl.DataFrame) -> bytes:
    kinds = {"rating": "float", "timestamp": "float", "title": "token_seq"}
    typed = {name: f"{name}:{kinds.get(name, 'token')}" for name in frame.columns}
    return frame.rename(typed).write_csv(separator="\t", quote_style="never").encode()


def json_lines(encoding: str = "utf-8", before: str = "", key: str = "") -> Writer:
    def write(frame: pl.DataFrame) -> bytes:
        lines = [json.dumps(row | {"nested": [{"a": {}}]}, ensure_ascii=False) for row in frame.to_dicts()]
        return (before + "".join(f"{line}\n" for line in lines)).encode(encoding)

    return write


def json_array(indent: int | None = None, encoding: str = "utf-8") -> Writer:
    return lambda frame: json.dumps(frame.to_dicts(), indent=indent, ensure_ascii=False).encode(encoding)


def json_text(frame: pl.DataFrame) -> bytes:
    return json_lines()(frame.cast(pl.String))


def parquet(**types: Callable[[pa.Array], pa.Array]) -> Writer:
    """With the columns in other Arrow types, and nested ones beside them."""

    def write(frame: pl.DataFrame) -> bytes:
        table = frame.to_arrow().cast(pa.schema([(name, _plain(dtype)) for name, dtype in frame.schema.items()]))
        arrays = {
            name: types.get(name, lambda array: array)(table[name].combine_chunks()) for name in table.column_names
        }
        nested = pa.array([[{"a": [1]}]] * frame.height)
        pairs = pa.array([[("k", 1)]] * frame.height, pa.map_(pa.string(), pa.int64()))
        sink = BytesIO()
        made = pa.table({"nested": nested, **arrays, "pairs": pairs})
        pa.parquet.write_table(made, sink, use_deprecated_int96_timestamps="timestamp" in types)
        return sink.getvalue()

    return write


def _plain(dtype: pl.DataType) -> pa.DataType:
    return pa.string() if dtype == pl.String else pa.float64() if dtype == pl.Float64 else pa.int64()


def decimals(scale: int) -> Callable[[pa.Array], pa.Array]:
    def change(array: pa.Array) -> pa.Array:
        return pa.array([Decimal(str(value)) for value in array.to_pylist()], pa.decimal128(30, scale))

    return change


def moments(unit: str, zone: str | None) -> Callable[[pa.Array], pa.Array]:
    def change(array: pa.Array) -> pa.Array:
        start = datetime(1970, 1, 1, tzinfo=UTC if zone else None)
        return pa.array([start + timedelta(seconds=value) for value in array.to_pylist()], pa.timestamp(unit, zone))

    return change


def as_type(dtype: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    return lambda array: array.cast(dtype)


# a format is an entry: the extension, and what writes a frame
FORMATS: dict[str, tuple[str, Writer]] = {
    "CSV": ("csv", delimited()),
    "CSV, all quoted": ("csv", delimited(quotes=True)),
    "CSV, CRLF": ("csv", delimited(newline="\r\n")),
    "CSV, CR": ("csv", delimited(newline="\r")),
    "CSV, byte order mark": ("csv", delimited(encoding="utf-8-sig")),
    "CSV, cp1252": ("csv", delimited(encoding="cp1252")),
    "CSV, UTF-16": ("csv", delimited(encoding="utf-16")),
    "CSV, UTF-16 big-endian without mark": ("csv", delimited(encoding="utf-16-be")),
    "semicolons": ("csv", delimited(";")),
    "semicolons, decimal commas": ("csv", decimal_comma),
    "tabs": ("tsv", delimited("\t")),
    "tabs, latin-1": ("txt", delimited("\t", "latin-1")),
    "bars": ("psv", delimited("|")),
    "double colons": ("dat", double_colon),
    "RecBole": ("inter", recbole),
    "JSON lines": ("jsonl", json_lines()),
    "JSON lines, byte order mark": ("json", json_lines("utf-8-sig")),
    "JSON lines, UTF-16": ("json", json_lines("utf-16")),
    "JSON lines, cp1252": ("ndjson", json_lines("cp1252")),
    "JSON lines, numbers as text": ("jsonl", json_text),
    "JSON array": ("json", json_array()),
    "JSON array over lines": ("json", json_array(2)),
    "JSON array, UTF-16": ("json", json_array(encoding="utf-16")),
    "Parquet": ("parquet", parquet()),
    "Parquet, dictionaries": (
        "parquet",
        parquet(item_id=pa.Array.dictionary_encode, user_id=pa.Array.dictionary_encode),
    ),
    "Parquet, large text": ("pq", parquet(item_id=as_type(pa.large_string()), title=as_type(pa.large_string()))),
    "Parquet, text views": ("parquet", parquet(item_id=as_type(pa.string_view()), title=as_type(pa.string_view()))),
    "Parquet, bytes": ("parquet", parquet(item_id=as_type(pa.binary()), title=as_type(pa.binary()))),
    "Parquet, decimals": ("parquet", parquet(user_id=decimals(0), rating=decimals(2))),
    "Parquet, unsigned and single": ("parquet", parquet(user_id=as_type(pa.uint16()), rating=as_type(pa.float32()))),
    "Parquet, int96": ("parquet", parquet(timestamp=moments("ns", None))),
    "Parquet, UTC": ("parquet", parquet(timestamp=moments("ms", "UTC"))),
    "Parquet, zone": ("parquet", parquet(timestamp=moments("us", "America/New_York"))),
    "Parquet, offset": ("parquet", parquet(timestamp=moments("us", "+05:30"))),
    "Arrow": ("arrow", arrow_file),
    "Arrow stream": ("ipc", arrow_stream),
    "Feather": ("feather", arrow_file),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_clean_data(tmp_path: Path, name: str) -> None:
    extension, write = FORMATS[name]
    (tmp_path / f"ratings.{extension}").write_bytes(write(RATINGS))
    (tmp_path / f"items.{extension}").write_bytes(write(ITEMS))
    config = DataConfig(
        interactions=str(tmp_path / f"ratings.{extension}"),
        items=str(tmp_path / f"items.{extension}"),
        test_fraction=0.2,
    )
    _assert_same(load(config))


def test_settings_say_what_cannot_be_detected(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_bytes(delimited("~")(RATINGS).split(b"\n", 1)[1])
    titles = ITEMS.with_columns(title=pl.Series(["Żółty szalik", "Popiół i diament", "Człowiek z marmuru"]))
    (tmp_path / "items.csv").write_bytes(delimited("~", "cp1250")(titles).split(b"\n", 1)[1])
    settings = {"encoding": "cp1250", "separator": "~", "items_header": ITEMS.columns}
    addresses = {"interactions": str(tmp_path / "ratings.csv"), "items": str(tmp_path / "items.csv")}
    clean = load(DataConfig.model_validate(addresses | settings | {"interactions_header": RATINGS.columns}))
    assert clean.items.rows() == titles.rows()
    assert clean.rows.height == RATINGS.height


def _assert_same(clean: CleanData) -> None:
    assert clean.rows.cast({"user_id": pl.String}).rows() == [
        ("7", "B01", 964982703, 1),
        ("7", "B02", 964982931, 0),
        ("8", "B01", 1288834974, 0),
        ("8", "b,03", 1288835000, 1),
        ("9", "B02", 1700000000, 1),
    ]
    assert clean.items.rows() == ITEMS.rows()
