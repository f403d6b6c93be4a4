"""Prepares what the MLflow server needs before it starts: tables, accounts, and buckets where it owns the store.

An init container of every replica, so each action leaves alone what is right already. Accounts follow the Secrets: a
password changed there is changed here, where MLflow itself would keep the one it first saw.

Environment: libpq's `PG*`; `MLFLOW_AUTH_ADMIN_USERNAME` and `_PASSWORD` (administrator); `MLFLOW_TRACKING_USERNAME` and
`_PASSWORD` (the pipelines' account); `CREATE_BUCKETS` (names with spaces between; only where the object store is the
cluster's own).
"""

import os
import subprocess
import sys

import psycopg
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

# any number that every replica agrees on
LOCK = 5_000


def main() -> None:
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    # replicas start side by side, and MLflow's migrations of one database must not
    with psycopg.connect() as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", uri], check=True)
        ensure_accounts(uri)
    if buckets := os.environ.get("CREATE_BUCKETS"):
        ensure_buckets(buckets.split())


def ensure_accounts(uri: str) -> None:
    """The administrator and the pipelines' account, with the passwords of the environment.

    Raises:
        SystemExit: a name or password is missing or empty.
    """
    store = SqlAlchemyStore()
    store.init_db(uri)
    for prefix, is_admin in (("MLFLOW_AUTH_ADMIN", True), ("MLFLOW_TRACKING", False)):
        name, password = (required(f"{prefix}_{part}") for part in ("USERNAME", "PASSWORD"))
        if not store.has_user(name):
            store.create_user(name, password, is_admin)
        elif not store.authenticate_user(name, password):
            store.update_user(name, password)


def required(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise SystemExit(f"{variable} is empty: fill it in the overlay's secrets/*.env and apply again")
    return value


def ensure_buckets(names: list[str]) -> None:
    import boto3

    s3 = boto3.client("s3")
    there = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for name in names:
        if name not in there:
            s3.create_bucket(Bucket=name)


if __name__ == "__main__":
    main()
