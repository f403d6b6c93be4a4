"""An address that is a database with a query: `postgresql://user@host/db?query=SELECT ...`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote

from sella_rec.addresses import password_place, without_password
from sella_rec.data.errors import DataError
from sella_rec.environment import DATABASE_PASSWORD

# as SQLAlchemy calls them, and the package of its driver
DRIVERS = {
    "postgresql": "psycopg[binary]",
    "sqlite": "",
    "mysql": "mysqlclient",
    "mariadb": "mariadb",
    "mssql": "pyodbc",
    "oracle": "oracledb",
    "duckdb": "duckdb-engine",
    "snowflake": "snowflake-sqlalchemy",
    "redshift": "sqlalchemy-redshift",
    "bigquery": "sqlalchemy-bigquery",
    "clickhouse": "clickhouse-sqlalchemy",
    "trino": "trino[sqlalchemy]",
    "databricks": "databricks-sqlalchemy",
}
_SCHEME = re.compile(r"^(?P<dialect>[a-z]+)(?:\+[a-z0-9_]+)?://")


@dataclass(frozen=True)
class DatabaseQuery:
    """What is asked of which database.

    Attributes:
        name: what messages call it.
        dialect: a key of `DRIVERS`.
        address: SQLAlchemy's, without a password.
        query: a SELECT.
    """

    name: str
    dialect: str
    address: str
    query: str

    @property
    def password(self) -> str | None:
        """The environment's; PostgreSQL's driver knows PGPASSWORD by itself."""
        return os.environ.get(DATABASE_PASSWORD) or None


def database_query(uri: str) -> DatabaseQuery | None:
    """Database and query of an address, none if it is of another kind.

    All behind `query=` is the query; it may be percent-encoded, which then has no blanks.

    Raises:
        DataError: there is no query, or one that is no SELECT, or a password in the address.
    """
    # as some platforms hand it out
    uri = re.sub("^postgres://", "postgresql://", uri)
    scheme = _SCHEME.match(uri)
    if not scheme or scheme["dialect"] not in DRIVERS:
        return None
    address, mark, query = re.split(r"([?&])query=", uri, maxsplit=1) if re.search("[?&]query=", uri) else (uri, "", "")
    if not mark:
        fix = f"'{uri}{'&' if '?' in uri else '?'}query=SELECT user_id, item_id, rating, timestamp FROM ratings'"
        raise DataError(f"{uri}: a database needs a query: {fix}")
    if re.search("(?i)[?&](password|passwd|pwd)=", address):
        raise DataError(f"{uri}: configurations are stored in MLflow: leave the password out, {password_place(uri)}")
    if not re.search(r"\s", query):
        query = unquote(query)
    if not re.match(r"(?is)\s*(select|with|values|table)\b", query):
        raise DataError(f"{uri}: the query must be a SELECT (got {query!r})")
    return DatabaseQuery(without_password(address), scheme["dialect"], address, query.strip().rstrip(";"))
