"""MLflow's server before an object store whose name means something to the server alone, as in another namespace."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mlflow_server import free_port, mlflow_server

BUCKET_HOST = "bucket.internal.invalid"
_START_SECONDS = 120
_ACCOUNT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
# Python runs this file before anything else
_RESOLVES = f"""
import socket
everywhere = socket.getaddrinfo

def getaddrinfo(host, *arguments, **named):
    return everywhere("127.0.0.1" if host == "{BUCKET_HOST}" else host, *arguments, **named)

socket.getaddrinfo = getaddrinfo
"""


@contextmanager
def mlflow_on_s3(folder: Path) -> Iterator[str]:
    """The address of the MLflow server; both end with the block."""
    with _store(folder) as port:
        (folder / "sitecustomize.py").write_text(_RESOLVES)
        own = {**_ACCOUNT, "MLFLOW_S3_ENDPOINT_URL": f"http://{BUCKET_HOST}:{port}", "PYTHONPATH": str(folder)}
        with mlflow_server(folder, artifacts="s3://mlflow/", environment=own) as url:
            yield url


@contextmanager
def _store(folder: Path) -> Iterator[int]:
    """moto's S3 with the bucket `mlflow`; gives its port."""
    port = free_port()
    # or else it takes the host's first label for the bucket
    environment = os.environ | {"S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}
    with (folder / "store.log").open("wb") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        until = time.monotonic() + _START_SECONDS
        while not _made(f"http://127.0.0.1:{port}/mlflow"):
            assert process.poll() is None, (folder / "store.log").read_text()
            assert time.monotonic() < until, (folder / "store.log").read_text()
            time.sleep(0.2)
        yield port
    finally:
        process.kill()
        process.wait()


def _made(bucket: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(bucket, method="PUT"), timeout=30).close()
    except ConnectionError:
        return False
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionError):
            return False
        raise
    return True
