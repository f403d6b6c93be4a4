"""Stores of every kind over loopback: what is said, and soon, where they do not answer or let nobody in."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from sella_rec import object_store
from sella_rec.data.errors import DataError
from sella_rec.data.input_files import fingerprint, read_files
from tests.fakes.files_server import serve

CSV = b"user_id,item_id\n1,2\n"


def error_of(uri: str) -> str:
    with pytest.raises(DataError) as raised:
        list(read_files(uri))
    return str(raised.value)


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_files_of_a_web_server_are_read(tmp_path: Path) -> None:
    (tmp_path / "a b.csv").write_bytes(CSV)
    (tmp_path / "c.csv").write_bytes(CSV * 2)
    with serve(tmp_path) as (address, _):
        (file,) = read_files(f"{address}/c.csv?X-Amz-Signature=abc")
        assert (file.read(), file.kind) == (CSV * 2, "csv")
        assert file.name == f"{address}/c.csv?X-Amz-Signature=***"
        assert [each.read() for each in read_files(f"{address}/*.csv")] == [CSV, CSV * 2]
        before = fingerprint(f"{address}/c.csv?sig=1")
        assert fingerprint(f"{address}/c.csv?sig=2") == before
        (tmp_path / "c.csv").write_bytes(CSV)
        assert fingerprint(f"{address}/c.csv?sig=1") != before


def test_an_account_is_found_in_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.csv").write_bytes(CSV)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password pw\n")
    netrc.chmod(0o600)
    with serve(tmp_path) as (address, behaviour):
        behaviour.account = "me:pw"
        monkeypatch.setenv("NETRC", str(tmp_path / "none"))
        told = error_of(f"{address}/c.csv")
        assert (
            "127.0.0.1 answers 401 Unauthorized. `machine 127.0.0.1 login USER password PASSWORD` in ~/.netrc" in told
        )
        monkeypatch.setenv("NETRC", str(netrc))
        (file,) = read_files(f"{address}/c.csv")
        assert file.read() == CSV


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "answers 403 Forbidden. `machine 127.0.0.1 login"),
        (404, "answers 404 Not Found. Is the address right?"),
        (500, "answers 500"),
        (410, "answers 410"),
    ],
)
@pytest.mark.parametrize("name", ["c.csv", "*.csv"])
def test_a_web_server_that_refuses_is_told(tmp_path: Path, status: int, said: str, name: str) -> None:
    with serve(tmp_path) as (address, behaviour):
        behaviour.status = status
        assert said in error_of(f"{address}/in/{name}")
        assert said in error_of(f"zip://r.csv::{address}/in/a.zip")


def test_a_step_waits_for_a_web_server_that_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.csv").write_bytes(CSV)
    monkeypatch.setenv("SELLA_PATIENCE", "60")
    with serve(tmp_path) as (address, behaviour):
        behaviour.status = 503
        Timer(0.3, lambda: setattr(behaviour, "status", 0)).start()
        (file,) = read_files(f"{address}/c.csv")
        assert file.read() == CSV
        behaviour.status = 403
        assert "answers 403" in error_of(f"{address}/c.csv")


def test_web_servers_that_cannot_be_reached_are_told(refusing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "ANSWER_SECONDS", 0.5)
    told = error_of(f"http://{refusing}/r.csv")
    assert told.startswith(f"http://{refusing}/r.csv: no use of {refusing}: ClientConnectorError: Cannot connect")
    assert "may this host reach it (HTTPS_PROXY, NO_PROXY)" in told
    assert "no use of nowhere.invalid: ClientConnectorDNSError" in error_of("https://nowhere.invalid/r.csv")
    with silent() as address:
        assert f"no answer from {address} within" in error_of(f"http://{address}/r.csv")


HUB = """
import sys
from sella_rec import object_store
from sella_rec.data.errors import DataError
from sella_rec.data.input_files import read_files
object_store.FIRST_ACCESS_SECONDS = 1.0
try:
    list(read_files("hf://datasets/team/data/r.csv"))
except DataError as error:
    print(error)
    sys.exit(7)
"""


def ask_hub(endpoint: str, **more: str) -> str:
    """In a process of its own, as the hub's library takes its address when it is imported."""
    environment = {"PATH": os.environ["PATH"], "HF_ENDPOINT": endpoint, "HOME": "/nowhere", **more}
    command = [sys.executable, "-c", HUB]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 7, done.stderr
    return done.stdout


def test_a_hub_that_does_not_answer_or_let_in_is_told(tmp_path: Path, refusing: str) -> None:
    with silent() as address:
        told = ask_hub(f"http://{address}")
    assert told.startswith(
        f"hf://datasets/team/data/r.csv: no answer from http://{address} within 1 s. HF_TOKEN is not set"
    )
    with serve(tmp_path) as (address, behaviour):
        behaviour.status = 401
        told = ask_hub(address, HF_TOKEN="hf_wrong")
        assert address in told
        assert "HF_TOKEN is set" in told


class Unreachable(MemoryFileSystem):
    """A driver of which each kind of failure can be asked."""

    protocol = ("gs",)
    cachable = False
    failure: Any = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def info(self, path: str, **_: Any) -> Any:
        if isinstance(self.failure, float):
            time.sleep(self.failure)
        raise self.failure


class AskedWhenMade(Unreachable):
    def __init__(self, **_: Any):
        super().__init__()
        time.sleep(5)


@pytest.fixture
def gs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(object_store, "FIRST_ACCESS_SECONDS", 0.3)
    monkeypatch.setattr(sys.modules["sella_rec.reachable"], "MemoryFileSystem", ())
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    yield lambda kind: fsspec.register_implementation("gs", kind, clobber=True)
    _registry.pop("gs", None)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (5.0, "no answer from bucket within 0 s. GOOGLE_APPLICATION_CREDENTIALS is not set; it has to be the file"),
        (
            PermissionError("Anonymous caller"),
            "no use of bucket: PermissionError: Anonymous caller. GOOGLE_APPLICATION",
        ),
        (RuntimeError("http://u:pw@x?token=pw"), "no use of bucket: RuntimeError: http://x?token=***."),
    ],
)
def test_stores_of_other_kinds_are_asked_as_briefly(gs: Any, failure: Any, said: str) -> None:
    Unreachable.failure = failure
    gs(Unreachable)
    for name in ("r.csv", "2024/*.csv"):
        assert f"gs://bucket/{name}: {said}" in error_of(f"gs://bucket/{name}")


def test_drivers_that_go_to_their_server_at_once_are_waited_for_as_briefly(gs: Any) -> None:
    gs(AskedWhenMade)
    assert "gs://bucket/r.csv: no answer from bucket within 0 s" in error_of("gs://bucket/r.csv")


@pytest.mark.parametrize(
    ("uri", "package"),
    [
        ("gs://bucket/r.csv", "gcsfs"),
        ("abfs://container@account.dfs.core.windows.net/r.csv", "adlfs"),
        ("sftp://host/r.csv", "paramiko"),
        ("smb://host/r.csv", "smbprotocol"),
        ("zip://r.csv::gs://bucket/a.zip", "gcsfs"),
        ("webdav://host/r.csv", "webdav4"),
    ],
)
def test_a_missing_driver_comes_with_the_command_that_installs_it(uri: str, package: str) -> None:
    assert error_of(uri).endswith(f"; pip install {package}")
