"""S3 over HTTP on loopback: with whose credentials, and what is said where the store cannot be used."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import s3fs

from components.recommend.output import Output, OutputError
from sella_rec import object_store
from sella_rec.config import LaunchConfig
from sella_rec.data.input_files import fingerprint, read_files
from sella_rec.errors import UserError
from sella_rec.files import open_store
from sella_rec.runtime.checkpoint_store import CheckpointStoreError, open_checkpoint_store
from tests.fakes import s3_server

SECRET = "a-key-that-no-message-may-hold"


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """No credentials and settings but a test's own; everything else of AWS's is found in files or asked of the net."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "SELLA_AWS_"))]:
        monkeypatch.delenv(name)
    # set and removed, so that what the code itself sets goes again after the test
    for name in (*object_store.OBJECT_STORE_VARIABLES, *object_store._CHECKSUMS):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def store():
    with s3_server.serve() as (address, store):
        store.buckets["team"] = {}
        yield address, store


@pytest.fixture
def step_secret(monkeypatch, store):
    """What the pod of a step is given."""
    given = {
        "AWS_ACCESS_KEY_ID": "team-id",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": store[0],
        "AWS_DEFAULT_REGION": "eu-north-7",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"SELLA_{name}", value)
    return given


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def error_of(uri: str) -> str:
    with pytest.raises(UserError) as raised:
        open_store(uri, UserError)
    return str(raised.value)


def test_data_is_read_and_recommendations_are_written_with_the_steps_secret(step_secret, store):
    store[1].buckets["team"] = {"data/ratings.csv": b"user,item\n1,2\n", "data/_SUCCESS": b""}
    (file,) = read_files("s3://team/data")
    assert file.read() == b"user,item\n1,2\n"
    assert "team/data/ratings.csv" in fingerprint("s3://team/data/ratings.csv")
    Output.at("s3://team/recommendations").write("_summary.json", b"{}")
    # whole and as it is: no chunks with a checksum between them, which not every store takes apart
    assert store[1].buckets["team"]["recommendations/_summary.json"] == b"{}"
    (put,) = (headers for method, _, headers in store[1].seen if method == "PUT")
    assert not [name for name in put if "checksum" in name.lower()]
    signed = {headers["Authorization"] for _, _, headers in store[1].seen}
    assert all(re.search(r"Credential=team-id/\d+/eu-north-7/s3/", each) for each in signed)


def test_an_empty_value_of_the_secret_is_none(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("SELLA_AWS_DEFAULT_REGION", "")
    object_store.use_step_credentials()
    assert os.environ["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert "AWS_REQUEST_CHECKSUM_CALCULATION" not in os.environ


def test_other_processes_of_a_training_find_the_store_too(step_secret, store):
    code = "from sella_rec.files import open_store; open_store('s3://team/x', RuntimeError)"
    child = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.environ["PATH"]}
    child |= {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "SELLA_AWS_"))}
    subprocess.run([sys.executable, "-c", code], env=child, check=True, timeout=120)
    assert [method for method, path, _ in store[1].seen if path.startswith("/team")] == ["HEAD"]


def test_a_store_that_refuses_is_told_by_its_address(step_secret, monkeypatch):
    address = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setenv("SELLA_AWS_ENDPOINT_URL", address)
    told = error_of("s3://team/data")
    assert told.startswith(f"s3://team/data: no answer from {address}: Could not connect")
    assert "AWS_ENDPOINT_URL names the store" in told
    assert SECRET not in told


def test_a_store_that_never_answers_is_told_by_its_address(step_secret, monkeypatch):
    monkeypatch.setattr(object_store, "ANSWER_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("SELLA_AWS_ENDPOINT_URL", address)
        told = error_of("s3://team/data")
    assert told.startswith(f"s3://team/data: no answer from {address}: Read timeout")


def test_whatever_keeps_the_answer_back_the_wait_has_an_end_within_half_a_minute(step_secret, store, monkeypatch):
    assert object_store.CONNECT_SECONDS + object_store.ANSWER_SECONDS < object_store.FIRST_ACCESS_SECONDS <= 29
    # the look-up of a name has no limit of its own
    monkeypatch.setattr(object_store, "FIRST_ACCESS_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("SELLA_AWS_ENDPOINT_URL", address)
        assert f"no answer from {address} within 0 s. AWS_ENDPOINT_URL names" in error_of("s3://team/data")


@pytest.mark.parametrize(
    ("region", "address", "fix"),
    [
        ("", r"https://s3\.amazonaws\.com", "taken where neither AWS_ENDPOINT_URL nor AWS_DEFAULT_REGION is set"),
        (
            "eu-central-1",
            r"https://s3\.eu-central-1\.amazonaws\.com",
            "a store of your own is named by AWS_ENDPOINT_URL",
        ),
    ],
)
def test_awss_own_address_is_told_as_such(step_secret, monkeypatch, region, address, fix):
    monkeypatch.setenv("SELLA_AWS_ENDPOINT_URL", "")
    monkeypatch.setenv("SELLA_AWS_DEFAULT_REGION", region)
    # no way out of this machine, whatever the network it is on
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
    told = error_of("s3://team/data")
    assert re.match(rf"s3://team/data: no answer from {address}: .*That is AWS's own address", told), told
    assert fix in told


def test_missing_credentials_are_told_with_the_address(store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", store[0])
    told = error_of("s3://team/data")
    assert told.startswith(f"s3://team/data: no credentials for {store[0]}: AWS_ACCESS_KEY_ID and")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    s3fs.S3FileSystem.clear_instance_cache()
    assert f"no credentials for {store[0]}" in error_of("s3://team/data")


def test_a_bucket_that_is_not_there_is_told_with_the_address(step_secret, store):
    assert f"there is no bucket 'other' at {store[0]}" in error_of("s3://other/data")


def test_a_key_that_may_not_ask_for_the_bucket_may_go_on(step_secret, store, caplog):
    store[1].refuse = 403
    with caplog.at_level(logging.WARNING):
        open_store("s3://team/data", UserError)
    assert f"{store[0]} answers about bucket team: Forbidden" in caplog.text


def test_a_password_in_the_address_stays_there(step_secret, monkeypatch):
    monkeypatch.setenv("SELLA_AWS_ENDPOINT_URL", f"http://me:{SECRET}@127.0.0.1:{closed_port()}")
    told = error_of("s3://team/data")
    assert "no answer from http://127.0.0.1" in told
    assert SECRET not in told


def test_recommendations_and_checkpoints_say_it_too(step_secret, monkeypatch, tmp_path):
    address = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setenv("SELLA_AWS_ENDPOINT_URL", address)
    with pytest.raises(OutputError, match=f"s3://team/out: no answer from {address}"):
        Output.at("s3://team/out")
    launch = LaunchConfig(checkpoint_uri="s3://team/checkpoints")
    with pytest.raises(CheckpointStoreError, match=rf"launch\.checkpoint_uri: s3://team/.*: no answer from {address}"):
        open_checkpoint_store(launch, tmp_path)
