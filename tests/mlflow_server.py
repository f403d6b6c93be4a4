"""MLflow's own server on loopback, in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_START_SECONDS = 240


@contextmanager
def mlflow_server(
    folder: Path, backend: str = "", artifacts: str = "", environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """The address of a server that ends with the block.

    Args:
        folder: for its log, and for the database and the artifacts where none are named.
        backend: SQLAlchemy's address of the database.
        artifacts: where the server puts what clients send to it.
        environment: of the server alone.
    """
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri={backend or f'sqlite:///{folder}/mlflow.db'}"]
    command += [f"--artifacts-destination={artifacts or folder / 'artifacts'}"]
    own = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **(environment or {})}
    log = folder / "server.log"
    with log.open("wb") as out:
        # without the test's own MLFLOW_* variables, some of which mean something to a server too
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        process = subprocess.Popen(
            command, env=inherited | own, cwd=folder, stdout=out, stderr=out, start_new_session=True
        )
    try:
        _wait_until_healthy(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        # its workers too
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
