"""Files of every format, compression and address become the same table, and bad ones one clear error."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from components.prepare_data.read import read_tables
from sella_rec import files as stores
from sella_rec.data import input_files as files
from sella_rec.data.errors import DataError

COLUMNS = {"user_id": "user_id", "item_id": "item_id", "timestamp": "timestamp", "rating": "rating"}
FRAME = pl.DataFrame(
    {"user_id": ["a", "b,c", 'd"e'], "item_id": [1, 2, 3], "rating": [4.0, 0.5, 3.0], "timestamp": [10, 20, 30]}
)


def csv_bytes(frame: pl.DataFrame = FRAME) -> bytes:
    return frame.write_csv().encode()


def json_bytes(frame: pl.DataFrame = FRAME) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in frame.to_dicts()).encode()


def parquet_bytes(frame: pl.DataFrame = FRAME) -> bytes:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(frame.to_arrow(), sink)
    return sink.getvalue().to_pybytes()


FORMATS: dict[str, Callable[[], bytes]] = {
    "csv": csv_bytes,
    "jsonl": json_bytes,
    "ndjson": json_bytes,
    "json": json_bytes,
    "parquet": parquet_bytes,
    "CSV": csv_bytes,
}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def read_all(uri: str | Path, columns: dict[str, str] = COLUMNS) -> pl.DataFrame:
    return pl.concat([table.frame.cast({"rating": pl.Float64}) for table in read_tables(str(uri), columns)])


def read_text(folder: Path, name: str, text: str | bytes) -> pl.DataFrame:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return next(iter(read_tables(str(path), COLUMNS))).frame


def expected(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("user_id", "item_id", "timestamp", "rating")


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.rm("/prepare", recursive=True)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_and_compression_gives_the_same_table(tmp_path: Path, extension: str, compression: str) -> None:
    path = tmp_path / f"ratings.{extension}{compression}"
    path.write_bytes(COMPRESSIONS[compression](FORMATS[extension]()))
    assert read_all(path).select(FRAME.columns).equals(FRAME)


def test_folder_of_mixed_files_is_read_in_path_order_without_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / "b.parquet").write_bytes(parquet_bytes(FRAME[1:2]))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(csv_bytes(FRAME[:1])))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "d.jsonl").write_bytes(json_bytes(FRAME[2:]))
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".a.csv.crc").touch()
    assert read_all(tmp_path).equals(expected(FRAME))


def test_pattern_names_the_wanted_files(tmp_path: Path) -> None:
    (tmp_path / "part-1.csv").write_bytes(csv_bytes(FRAME[:1]))
    (tmp_path / "part-2.csv").write_bytes(csv_bytes(FRAME[1:]))
    (tmp_path / "notes.txt").touch()
    assert read_all(tmp_path / "part-*.csv").equals(expected(FRAME))


def test_memory_and_file_uris(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file("/prepare/x/1.csv", csv_bytes(FRAME[:2]))
    memory.pipe_file("/prepare/x/2.parquet", parquet_bytes(FRAME[2:]))
    assert read_all("memory://prepare/x").equals(expected(FRAME))
    assert read_all("memory://prepare/x/*.parquet").equals(expected(FRAME[2:]))
    (tmp_path / "r.csv").write_bytes(csv_bytes())
    assert read_all(f"file://{tmp_path}/r.csv").equals(expected(FRAME))


def test_member_of_a_zip_by_chained_uri(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("inner/ratings.csv", csv_bytes())
    assert read_all(f"zip://inner/ratings.csv::file://{tmp_path}/data.zip").equals(expected(FRAME))


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r.csv").write_bytes(csv_bytes())
    monkeypatch.chdir(tmp_path)
    assert read_all("r.csv").equals(expected(FRAME))


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_renamed_columns(tmp_path: Path, extension: str) -> None:
    names = {"user_id": "reviewer ID", "item_id": "asin", "timestamp": "time", "rating": "overall"}
    path = tmp_path / f"r.{extension}"
    renamed = FRAME.rename(names)
    path.write_bytes({"csv": csv_bytes, "jsonl": json_bytes, "parquet": parquet_bytes}[extension](renamed))
    assert read_all(path, names).equals(expected(FRAME))


def test_text_becomes_integer_only_where_nothing_is_lost(tmp_path: Path) -> None:
    frame = read_text(tmp_path, "r.csv", "user_id,item_id\n007,-5\n8,9223372036854775807\n")
    assert frame.rows() == [("007", -5), ("8", 9223372036854775807)]
    assert read_text(tmp_path, "r.csv", "user_id\n9223372036854775808\n").rows() == [("9223372036854775808",)]


def test_json_strings_stay_strings_and_odd_unwanted_fields_do_not_matter(tmp_path: Path) -> None:
    lines = (
        '{"user_id": "1", "item_id": 7, "more": {"a": 1}}\n\n{"user_id": "2", "item_id": 8, "more": [1], "rating": 4}\n'
    )
    frame = read_text(tmp_path, "r.jsonl", lines)
    assert frame.rows(named=True) == [
        {"user_id": "1", "item_id": 7, "rating": None},
        {"user_id": "2", "item_id": 8, "rating": 4},
    ]


def test_csv_with_quotes_byte_order_mark_windows_lines_and_line_breaks_in_values(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbfuser_id,item_id\r\n"a, ""b""\nc",1\r\n5" disc,2\r\n'
    assert read_text(tmp_path, "r.csv", text).rows() == [('a, "b"\nc', 1), ('5" disc', 2)]


BAD_FILES = [
    ("r.csv", "", "r.csv: the file is empty"),
    ("r.csv", "user_id,item_id\n1,2\n1,2,3\n", "r.csv: malformed CSV: 2 values expected .* row 3 has 3: '1,2,3'"),
    ("r.csv", "user_id,item_id\n1,2\n1\n", "r.csv: malformed CSV: 2 values expected .* row 3 has 1: '1'"),
    ("r.csv", 'user_id,item_id\n1,"2\n3,4\n', "r.csv: malformed CSV: line 2: a quotation mark is not closed"),
    (
        "r.csv",
        'user_id,item_id\n1,2\n1,"a\n2,b\n3,"c"\n',
        "r.csv: malformed CSV: line 3: a quotation mark is not closed",
    ),
    ("r.csv", "rating,rating\n1,2\n", "r.csv: more than one column 'rating'"),
    ("r.csv.gz", gzip.compress(csv_bytes() * 99)[:-9], "r.csv.gz: corrupt .gz file"),
    ("r.csv.gz", b"plain text", "r.csv.gz: corrupt .gz file"),
    ("r.csv.zst", COMPRESSIONS[".zst"](csv_bytes() * 99)[:-9], "r.csv.zst: corrupt .zst file"),
    ("r.jsonl", "", "r.jsonl: the file is empty"),
    ("r.jsonl", "3\n", "r.jsonl, row 1: expected a JSON object, got 3"),
    ("r.jsonl", '{"user_id": 1}\n4\n', "r.jsonl, row 2: malformed JSON line: expected a JSON object"),
    ("r.jsonl", '{"user_id": 1}\n{"user_id": 1\n', "r.jsonl, row 2: malformed JSON line: .*delimiter"),
    ("r.jsonl", '{"user_id": 1}\n{"rating": NaN}\n', "r.jsonl, row 2: malformed JSON line: NaN is not JSON"),
    ("r.parquet", "not parquet", "r.parquet: not a readable Parquet file"),
    (
        "r.parquet",
        parquet_bytes(pl.DataFrame({"user_id": [[1]]})),
        "r.parquet, row 1, column 'user_id': contains List.*one value",
    ),
    ("r.dat", "1::2", "r.dat: the first row is no header: '1::2'; name the columns"),
    (
        "ratings.dat",
        "user_id::item_id\n1::2\n1::2::3\n",
        "ratings.dat: malformed CSV: 2 values expected in a row, but row 3 has 3: '1::2::3'",
    ),
    ("r.xlsx", "", r"r.xlsx: unknown extension; expected .csv, .*.dat, .jsonl, .*\.parquet"),
    ("r.gz", "", "r.gz: unknown extension"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_file_is_one_clear_error(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_text(tmp_path, name, content)


def test_json_lines_in_many_parts_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_CHUNK_BYTES", 100)
    rows = [{"user_id": f"u{n}", "item_id": n, "timestamp": n, "rating": n % 5} for n in range(200)]
    # a part may lack a field that an earlier part had, and blank lines may fill a part
    rows[100:110] = [{"user_id": f"u{n}", "item_id": n, "timestamp": n} for n in range(100, 110)]
    lines = [json.dumps(row) for row in rows]
    text = "\n".join([*lines[:150], *[""] * 300, *lines[150:]])
    (tmp_path / "r.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    tables = list(read_tables(str(tmp_path / "r.jsonl.gz"), COLUMNS))
    assert len(tables) > 50
    assert pl.concat([table.frame for table in tables]).rows() == [
        (row["user_id"], row["item_id"], row["timestamp"], row.get("rating")) for row in rows
    ]
    part = next(table for table in tables if "u186" in table.frame["user_id"])
    with pytest.raises(DataError, match="row 187, column 'rating': planted"):
        part.reject("rating", part.frame["user_id"] == "u186", "planted")
    (tmp_path / "r.jsonl").write_text(text.replace('"u186"', "u186"))
    with pytest.raises(DataError, match=r"r\.jsonl, row 187: malformed JSON line"):
        list(read_tables(str(tmp_path / "r.jsonl"), COLUMNS))


def test_grouplens_files_have_no_header_and_are_latin_1(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_bytes(b"1::1193::5::978300760\n2::661::3::978302109\n")
    (tmp_path / "movies.dat").write_bytes(
        '1::Misérables, Les (1995)::Drama|Musical\n2::"Odd: one"::A\n'.encode("latin-1")
    )
    names = {"user_id": "UserID", "item_id": "MovieID", "timestamp": "Timestamp", "rating": "Rating"}
    assert next(iter(read_tables(str(tmp_path / "ratings.dat"), names))).frame.rows() == [
        (1, 1193, 978300760, 5),
        (2, 661, 978302109, 3),
    ]
    titles = next(iter(read_tables(str(tmp_path / "movies.dat"), {"item_id": "MovieID", "title": "Title"}))).frame
    assert titles.rows() == [(1, "Misérables, Les (1995)"), (2, '"Odd: one"')]


def test_missing_file_pattern_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope\.csv: no such file or folder"):
        read_all(tmp_path / "nope.csv")
    with pytest.raises(DataError, match=r"\*\.csv: no such file or folder, and no file matches"):
        read_all(tmp_path / "*.csv")
    (tmp_path / ".hidden").touch()
    with pytest.raises(DataError, match=r"the folder contains no files; expected \.csv"):
        read_all(tmp_path)


def test_missing_driver_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_s3fs(uri: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(stores, "url_to_fs", no_s3fs)
    with pytest.raises(DataError, match=r"s3://bucket/r\.csv: the driver .* is not installed: Install s3fs"):
        read_all("s3://bucket/r.csv")


def test_unknown_protocol() -> None:
    with pytest.raises(DataError, match=r"nowhere://r\.csv: Protocol not known: nowhere"):
        read_all("nowhere://r.csv")


def test_driver_failure_names_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r.csv").write_bytes(csv_bytes())

    def refuse(*_: object, **__: object) -> bytes:
        raise PermissionError("denied")

    monkeypatch.setattr(files.LocalFileSystem, "open", refuse)
    with pytest.raises(DataError, match=r"r\.csv: cannot be read: denied"):
        read_all(tmp_path / "r.csv")
