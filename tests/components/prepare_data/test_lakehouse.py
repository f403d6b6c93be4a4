"""Delta Lake and Iceberg tables that their own libraries wrote: the rows that count now, and no others."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

from components.prepare_data import lakehouse
from components.prepare_data.read import read_tables
from sella_rec.config import DataConfig
from sella_rec.data.errors import DataError
from sella_rec.data.lakehouse import lakehouse_table
from sella_rec.data.version import data_version

COLUMNS = {"user_id": "u", "item_id": "i", "rating": "r"}
FIRST = pa.table({"u": ["a", "b"], "i": [1, 2], "r": [1.0, 2.0], "day": ["x", "y"]})
SECOND = pa.table({"u": ["c", "a"], "i": [3, 4], "r": [3.0, 4.0], "day": ["x", "x"]})


def delta(folder: Path) -> tuple[str, Any]:
    path = str(folder / "delta")
    write_deltalake(path, FIRST, partition_by=["day"])

    def change() -> None:
        write_deltalake(path, SECOND, mode="append")
        DeltaTable(path).delete("u = 'b'")

    return path, change


def iceberg(folder: Path) -> tuple[str, Any]:
    (folder / "house").mkdir()
    catalog = SqlCatalog("c", uri=f"sqlite:///{folder}/c.db", warehouse=f"file://{folder}/house")
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", schema=FIRST.schema)
    table.append(FIRST)

    def change() -> None:
        table.append(SECOND)
        table.delete("u == 'b'")

    return table.location().removeprefix("file://"), change


@pytest.mark.parametrize("make", [delta, iceberg])
def test_the_rows_of_the_newest_state_are_read(tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path, change = make(tmp_path)
    config = DataConfig(interactions=path, items=path)
    before = data_version(config)
    assert data_version(config) == before
    rows = sorted(row for table in read_tables(path, COLUMNS) for row in table.frame.rows())
    assert rows == [("a", 1, 1.0), ("b", 2, 2.0)]
    change()
    monkeypatch.setattr(lakehouse, "_BATCH_ROWS", 2)
    tables = list(read_tables(f"file://{path}", COLUMNS))
    assert sorted(row for table in tables for row in table.frame.rows()) == [
        ("a", 1, 1.0),
        ("a", 4, 4.0),
        ("c", 3, 3.0),
    ]
    assert all(set(table.present) == {"u", "i", "r", "day"} for table in tables)
    assert data_version(config) != before


@pytest.mark.parametrize(("make", "package"), [(delta, "deltalake"), (iceberg, "pyiceberg")])
def test_without_the_package_the_error_has_its_command(
    tmp_path: Path, make: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = make(tmp_path)
    imported = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith(package):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=f": a table of this kind needs a package: pip install {package}"):
        list(read_tables(path, COLUMNS))


@pytest.mark.parametrize("make", [delta, iceberg])
def test_a_damaged_table_is_one_error(tmp_path: Path, make: Any) -> None:
    path, _ = make(tmp_path)
    for file in Path(path).rglob("*.parquet"):
        if file.parent.name != "_delta_log":
            file.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"(delta|iceberg) table cannot be read"):
        list(read_tables(path, COLUMNS))
    for file in [*Path(path).rglob("*.json")]:
        file.write_text("{")
    with pytest.raises(DataError, match=r"(delta|iceberg) table cannot be read"):
        list(read_tables(path, COLUMNS))


def test_a_metadata_file_is_an_address_and_two_equally_new_ones_are_an_error(tmp_path: Path) -> None:
    path, change = iceberg(tmp_path)
    before = lakehouse_table(path)
    assert before is not None
    change()
    assert len([row for table in read_tables(before.address, COLUMNS) for row in table.frame.rows()]) == 2
    newest = lakehouse_table(path)
    assert newest is not None
    other = Path(newest.address.removeprefix("file://")).with_name(f"{Path(newest.address).name[:5]}-x.metadata.json")
    other.write_bytes(Path(newest.address.removeprefix("file://")).read_bytes())
    with pytest.raises(DataError, match="several metadata files are equally new") as raised:
        list(read_tables(path, COLUMNS))
    pasted = str(raised.value).rpartition(": ")[2].split(", ")
    assert sorted(pasted) == sorted([str(other), newest.address])
    assert all(list(read_tables(address, COLUMNS)) for address in pasted)


def test_a_folder_of_files_is_neither(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "notes.json").touch()
    assert lakehouse_table(str(tmp_path)) is None
    assert lakehouse_table(f"{tmp_path}/*.parquet") is None


def test_a_table_without_rows_is_an_empty_one(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "delta"), FIRST[:0])
    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("n")
    made = catalog.create_table("n.t", schema=FIRST.schema)
    for path in (str(tmp_path / "delta"), made.location()):
        (table,) = read_tables(path, COLUMNS)
        assert (table.frame.height, table.frame.columns) == (0, ["user_id", "item_id", "rating"])
