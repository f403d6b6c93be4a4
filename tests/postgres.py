"""PostgreSQL from the machine's packages, on a socket in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_START_SECONDS = 60


def postgres_programs() -> Path | None:
    """The folder of the newest one; None where none is installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda path: int(path.parent.name))
    named = shutil.which("initdb")
    return Path(named).parent if named else None


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """SQLAlchemy's address of an empty database that is gone when the block ends."""
    account = _account()
    # short, as a socket's path has to be, and open to the account
    folder = Path(tempfile.mkdtemp(prefix="sella-pg-"))
    folder.chmod(0o755)
    data, run = folder / "data", folder / "run"
    run.mkdir()
    if account:
        shutil.chown(folder, account["user"])
        shutil.chown(run, account["user"])
    made = [str(programs / "initdb"), f"--pgdata={data}", "--username=mlflow", "--auth=trust", "--no-sync"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder, **account)
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={run}", "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(data), *options], stdout=log, stderr=log, cwd=folder, **account
        )
    try:
        _create_database(server, run, folder / "log")
        yield f"postgresql+psycopg://mlflow@/mlflow?host={run}"
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()
        shutil.rmtree(folder)


def _account() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then as the account that its package makes."""
    if os.geteuid():
        return {}
    account = pwd.getpwnam("postgres")
    return {"user": account.pw_name, "group": account.pw_gid, "extra_groups": []}


def _create_database(server: subprocess.Popen[bytes], run: Path, log: Path) -> None:
    import psycopg

    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            with psycopg.connect(host=str(run), user="mlflow", dbname="postgres", autocommit=True) as connection:
                connection.execute("CREATE DATABASE mlflow")
            return
        except psycopg.OperationalError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
