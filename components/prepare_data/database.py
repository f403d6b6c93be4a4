"""The rows that a database answers a query with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from components.prepare_data.table import Table, make_table, short
from sella_rec.data.database_query import DRIVERS, DatabaseQuery
from sella_rec.data.errors import DataError
from sella_rec.object_store import FIRST_ACCESS_SECONDS
from sella_rec.reachable import within

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_BATCH_ROWS = 200_000


def read_database(asked: DatabaseQuery, columns: Mapping[str, str]) -> Iterator[Table]:
    """The answer's rows in batches, each column as the database types it; one where it mixes types as text.

    Nothing is changed there: the transaction is rolled back.

    Raises:
        DataError: no driver, no such database, no answer in 25 s, or the server's error in one sentence.
    """
    from sqlalchemy import text

    with _errors(asked), _connection(asked) as connection:
        # no parameters: a colon is one
        answer = connection.execute(text(asked.query.replace(":", "\\:")))
        names = list(answer.keys())
        rows = 0
        for batch in answer.partitions(_BATCH_ROWS):
            yield _table(asked, names, list(zip(*batch, strict=True)), columns, rows + 1)
            rows += len(batch)
        if not rows:
            yield _table(asked, names, [()] * len(names), columns, 1)


@contextmanager
def _connection(asked: DatabaseQuery) -> Iterator[Connection]:
    engine = _engine(asked)
    # SQLite's connections stay in the thread that they were made in, and wait for nobody
    open_it = engine.connect if asked.dialect == "sqlite" else lambda: within(FIRST_ACCESS_SECONDS, engine.connect)
    try:
        with open_it() as connection:
            yield connection.execution_options(stream_results=True, max_row_buffer=_BATCH_ROWS)
            connection.rollback()
    finally:
        engine.dispose()


def _engine(asked: DatabaseQuery) -> Engine:
    from sqlalchemy import create_engine, make_url

    url = make_url(asked.address)
    if asked.dialect == "sqlite" and not Path(url.database or "").is_file():
        # SQLite would make an empty one
        raise DataError(f"{asked.name}: there is no such file ({Path(url.database or '').absolute()})")
    return create_engine(url.set(password=asked.password) if asked.password else url)


@contextmanager
def _errors(asked: DatabaseQuery) -> Iterator[None]:
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

    try:
        yield
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        fix = f'pip install "{DRIVERS[asked.dialect]}"'
        raise DataError(
            f"{asked.name}: the driver for this database is not installed: {short(error)}; {fix}"
        ) from error
    except TimeoutError as error:
        reach = "is the address right, and may this host reach it?"
        raise DataError(f"{asked.name}: no answer within {FIRST_ACCESS_SECONDS:.0f} s; {reach}") from error
    except (ArgumentError, ValueError) as error:
        raise DataError(f"{asked.name}: not a database's address: {short(error)}") from error
    except SQLAlchemyError as error:
        said = error.orig if isinstance(error, DBAPIError) and error.orig else error
        raise DataError(f"{asked.name}: {_sentence(said)}{_password_hint(said)}; the query: {asked.query}") from error


def _sentence(error: Any) -> str:
    return " ".join(str(error).split())[:300]


def _password_hint(error: Any) -> str:
    if "password" not in str(error).lower():
        return ""
    return "; the password is read from the environment variable SELLA_DATABASE_PASSWORD"


def _table(
    asked: DatabaseQuery, names: list[str], values: Sequence[Sequence[Any]], columns: Mapping[str, str], first_row: int
) -> Table:
    wanted = set(columns.values())
    for name in wanted:
        if names.count(name) > 1:
            raise DataError(f"{asked.name}: more than one column '{name}' in the answer; name them apart with AS")
    frame = pl.DataFrame([_series(name, each) for name, each in zip(names, values, strict=True) if name in wanted])
    return make_table(asked.name, frame, columns, names, first_row)


def _series(name: str, values: Sequence[Any]) -> pl.Series:
    try:
        series = pl.Series(name, values, strict=True)
    except (TypeError, pl.exceptions.PolarsError):
        series = pl.Series(name, values, dtype=pl.Object)
    if series.dtype == pl.Object:
        # of mixed types, as SQLite allows, or of one that polars has no column for, such as UUID
        return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)
    return series
