"""Queries to real databases, SQLite's and PostgreSQL's, and what is said where they go wrong."""

from __future__ import annotations

import re
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
from sqlalchemy import create_engine, text

from components.prepare_data import database
from components.prepare_data.read import read_tables
from components.prepare_data.step import prepare_data
from sella_rec.config import DataConfig, load_config
from sella_rec.data.database_query import database_query
from sella_rec.data.errors import DataError
from sella_rec.data.version import data_version
from sella_rec.tracking.tracker import Tracker
from tests.postgres import postgres, postgres_programs

COLUMNS = {"user_id": "u", "item_id": "i", "rating": "r", "timestamp": "t"}
SELECT = "SELECT u, i, r, t FROM ratings ORDER BY t"


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    path = tmp_path / "my data.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE ratings (u TEXT, i INTEGER, r REAL, t INTEGER)")
        rows = [(f"u{n % 7}", n % 20, n % 5 + 0.5, 978_300_000 + n) for n in range(200)]
        connection.executemany("INSERT INTO ratings VALUES (?, ?, ?, ?)", rows)
        connection.execute("CREATE TABLE films (item_id INTEGER, title TEXT)")
        connection.executemany("INSERT INTO films VALUES (?, ?)", [(n, f"T{n}: {n} %") for n in range(20)])
    return path


def read(uri: str) -> pl.DataFrame:
    return pl.concat([table.frame for table in read_tables(uri, COLUMNS)])


def error_of(uri: str) -> str:
    with pytest.raises(DataError) as raised:
        read(uri)
    return str(raised.value)


@pytest.mark.parametrize(
    "query", [SELECT, quote(SELECT), f"  {SELECT.lower()};", f"WITH a AS ({SELECT}) SELECT * FROM a"]
)
def test_a_query_is_read_in_batches(sqlite: Path, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    monkeypatch.setattr(database, "_BATCH_ROWS", 60)
    tables = list(read_tables(f"sqlite:///{sqlite}?query={query}", COLUMNS))
    assert [table.first_row for table in tables] == [1, 61, 121, 181]
    with sqlite3.connect(sqlite) as connection:
        assert pl.concat([table.frame for table in tables]).rows() == connection.execute(SELECT).fetchall()


def test_colons_and_percent_signs_of_a_query_are_its_own(sqlite: Path) -> None:
    (table,) = read_tables(
        f"sqlite:///{sqlite}?query=SELECT title AS u, item_id AS i FROM films WHERE title LIKE 'T1%' AND title != ':x'",
        COLUMNS,
    )
    assert table.frame["item_id"].to_list() == [1, *range(10, 20)]


def test_no_rows_are_an_empty_table_and_mixed_types_are_text(sqlite: Path) -> None:
    (table,) = read_tables(f"sqlite:///{sqlite}?query=SELECT u, i FROM ratings WHERE i < 0", COLUMNS)
    assert (table.frame.height, table.frame.columns) == (0, ["user_id", "item_id"])
    mixed = read(f"sqlite:///{sqlite}?query=SELECT 1 AS u UNION ALL SELECT 'a' UNION ALL SELECT NULL")
    assert mixed["user_id"].to_list() == ["1", "a", None]


def test_the_whole_step_reads_both_tables_and_changes_nothing(sqlite: Path, tmp_path: Path) -> None:
    before = sqlite.read_bytes()
    names = [f"data.columns.{field}={name}" for field, name in COLUMNS.items() if field != "item_id"]
    given = [
        f"data.interactions=sqlite:///{sqlite}?query=SELECT u, i AS item_id, r, t FROM ratings",
        f"data.items=sqlite:///{sqlite}?query=SELECT * FROM films",
    ]
    report = prepare_data(load_config(None, [*given, *names]), tmp_path / "out", Tracker())
    assert (report["rows_read"], report["users"], report["items_kept"]) == (200, 7, 20)
    assert sqlite.read_bytes() == before


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT x FROM ratings", "no such column: x; the query: SELECT x FROM ratings"),
        ("SELECT u FROM", "incomplete input"),
        ("DELETE FROM ratings", "the query must be a SELECT (got 'DELETE FROM ratings')"),
        ("DROP TABLE ratings", "the query must be a SELECT"),
        ("SELECT u, u FROM ratings", "more than one column 'u' in the answer; name them apart with AS"),
        ("", "the query must be a SELECT"),
    ],
)
def test_a_query_that_cannot_be_answered_is_one_sentence(sqlite: Path, query: str, told: str) -> None:
    said = error_of(f"sqlite:///{sqlite}?query={query}")
    assert told in said
    assert "\n" not in said
    assert "sqlalche.me" not in said


def test_an_address_without_query_or_file_is_told(sqlite: Path) -> None:
    pasted = re.search(r"a database needs a query: '(.*)'$", error_of(f"sqlite:///{sqlite}"))
    assert pasted
    assert database_query(pasted[1]) is not None
    assert f"there is no such file ({sqlite}x)" in error_of(f"sqlite:///{sqlite}x?query=SELECT 1")
    assert not Path(f"{sqlite}x").exists()


@pytest.mark.parametrize(
    ("address", "package"),
    [("mysql", "mysqlclient"), ("mssql", "pyodbc"), ("snowflake", "snowflake-sqlalchemy"), ("duckdb", "duckdb-engine")],
)
def test_a_missing_driver_comes_with_its_command(address: str, package: str) -> None:
    assert "is not installed: " in (told := error_of(f"{address}://host/db?query=SELECT 1"))
    assert told.endswith(f'pip install "{package}"')


def test_a_password_among_the_options_is_refused() -> None:
    told = error_of("postgresql://me@host/db?password=s3cr3t&query=SELECT 1")
    assert "leave the password out, and set SELLA_DATABASE_PASSWORD" in told
    assert "s3cr3t" not in told


def test_files_are_no_databases() -> None:
    for uri in ("s3://bucket/r.csv", "/data/r.csv", "r.csv", "https://host/a.csv?query=SELECT 1", "embedded:movielens"):
        assert database_query(uri) is None


def test_each_run_asks_anew(sqlite: Path) -> None:
    uri = f"sqlite:///{sqlite}?query={SELECT}"
    config = DataConfig(interactions=uri, items=uri)
    assert data_version(config) != data_version(config)


def test_a_server_that_never_answers_or_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "FIRST_ACCESS_SECONDS", 0.5)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        place = f"postgresql://me@127.0.0.1:{server.getsockname()[1]}/db"
        told = error_of(f"{place}?query=SELECT 1")
        assert told.endswith("/db: no answer within 0 s; is the address right, and may this host reach it?")
    monkeypatch.setattr(database, "FIRST_ACCESS_SECONDS", 25.0)
    assert "Connection refused" in error_of(f"{place}?query=SELECT 1")


PROGRAMS = postgres_programs()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if PROGRAMS is None:
        pytest.skip("no PostgreSQL on this machine")
    with postgres(PROGRAMS) as address:
        engine = create_engine(address)
        with engine.begin() as connection:
            connection.execute(
                text("CREATE TABLE ratings (u uuid, i bigint, r numeric(3, 1), t timestamptz, tags text[])")
            )
            connection.execute(
                text(
                    "INSERT INTO ratings SELECT md5((n % 7)::text)::uuid, n % 20, (n % 5) + 0.5, "
                    "to_timestamp(978300000 + n), ARRAY['a'] FROM generate_series(0, 199) n"
                )
            )
            connection.execute(text("CREATE ROLE locked LOGIN PASSWORD 'right-one'"))
        engine.dispose()
        yield address


def test_postgresql_is_read_with_its_types(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BATCH_ROWS", 60)
    plain = server.replace("postgresql+psycopg", "postgres")
    frame = read(f"{plain}&query=SELECT u, i, r::float AS r, t FROM ratings WHERE 'a%' LIKE 'a%' ORDER BY t")
    with create_engine(server).connect() as connection:
        expected = connection.execute(text("SELECT u::text, i, r::float, t FROM ratings ORDER BY t")).all()
    assert frame.rows() == [tuple(row) for row in expected]
    assert frame.schema["item_id"] == pl.Int64


def test_postgresqls_error_is_one_sentence(server: str) -> None:
    told = error_of(f"{server}&query=SELECT nothing FROM ratings")
    assert 'column "nothing" does not exist' in told
    assert "\n" not in told
    # a query that writes, in the clothes of one that reads
    told = error_of(f"{server}&query=WITH gone AS (DELETE FROM ratings RETURNING u) SELECT u FROM gone")
    assert "must not contain data-modifying statements" in told


def test_the_password_is_the_environments_and_stays_there(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.prepare_data.database import _engine

    asked = database_query(f"{server}&query=SELECT 1")
    assert asked is not None
    assert _engine(asked).url.password is None
    monkeypatch.setenv("SELLA_DATABASE_PASSWORD", "p@ss/word")
    assert _engine(asked).url.password == "p@ss/word"
    assert "p@ss" not in error_of(f"{server}&query=SELECT nothing FROM ratings")
