"""Bundles from a server whose bucket cannot be reached from here: through the server, or an error at once."""

from __future__ import annotations

import json
import os
import re
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from sella_rec.tracking.registry import CHAMPION, ModelVersion, RegistryError, download, download_bundle, find
from sella_rec.tracking.server import CLIENT_DEFAULTS, answer_soon, prepare_client
from tests.mlflow_on_s3 import BUCKET_HOST
from tests.registering import NAME

DOWNLOAD = "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"


@pytest.fixture
def champion(far_client: Any) -> ModelVersion:
    found = find(far_client, NAME, CHAMPION)
    assert found is not None
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hosts that this process looks up."""
    hosts: list[str] = []
    everywhere = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **named: Any) -> Any:
        hosts.append(str(host))
        return everywhere(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return hosts


def test_the_server_would_send_every_client_to_its_bucket(far_registry):
    with urllib.request.urlopen(f"{far_registry}/api/3.0/mlflow/server-info") as answer:
        told = json.load(answer)
    assert (told["multipart_downloads_enabled"], told["multipart_uploads_enabled"]) == (True, True)


def test_files_go_through_the_server_both_ways(far_client, champion, asked, tmp_path, monkeypatch):
    # else only what is larger than 500 MB would be tried
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")
    prepare_client()
    bundle = download_bundle(champion, tmp_path / "bundle")
    assert (bundle / "weights").read_bytes() == b"weights" * 1000
    run_id = far_client.create_run("0").info.run_id
    far_client.log_artifact(run_id, str(bundle / "weights"))
    assert [file.path for file in far_client.list_artifacts(run_id)] == ["weights"]
    assert Path(far_client.download_artifacts(run_id, "weights")).stat().st_size == 7000
    assert BUCKET_HOST not in asked


@pytest.mark.parametrize("kind", ["bundle", "models", "runs"])
def test_a_user_who_wants_the_bucket_is_told_at_once_that_it_cannot_be_reached(
    far_client, champion, asked, tmp_path, monkeypatch, kind
):
    monkeypatch.setenv(DOWNLOAD, "true")
    prepare_client()
    run_id = far_client.get_model_version(NAME, champion.number).run_id
    uris = {"bundle": champion.uri, "models": champion.uri, "runs": f"runs:/{run_id}/{NAME}"}
    told = f"{uris[kind]} cannot be fetched from http://{BUCKET_HOST}:\\d+, where .*Failed to resolve.*{DOWNLOAD}=false"
    with pytest.raises(RegistryError, match=told) as raised:
        download_bundle(champion, tmp_path / "to") if kind == "bundle" else download(uris[kind], tmp_path / "to")
    # whoever has the presigned address has the file
    assert not re.search("signature|credential", str(raised.value), re.IGNORECASE)
    assert asked.count(BUCKET_HOST) == 1
    assert not list(tmp_path.rglob("weights"))


def test_a_bucket_that_refuses_is_told_of_with_its_answer(far_client, champion, tmp_path, monkeypatch):
    """As where a proxy in between changes what was signed."""
    everywhere = socket.getaddrinfo
    monkeypatch.setenv(DOWNLOAD, "true")
    port = int(os.environ["MLFLOW_TRACKING_URI"].rpartition(":")[2])
    # MLflow's own server stands in for a bucket that knows no such file
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **named: (
            everywhere("127.0.0.1", port, *rest[1:], **named)
            if host == BUCKET_HOST
            else everywhere(host, *rest, **named)
        ),
    )
    with pytest.raises(RegistryError, match=r"has its bucket: it answers 4\d\d .*; set"):
        download(champion.uri, tmp_path / "to")


def test_a_version_that_is_not_there_is_mlflows_error(far_client, tmp_path, monkeypatch):
    from mlflow import MlflowException

    monkeypatch.setenv(DOWNLOAD, "true")
    with pytest.raises(MlflowException, match="not found"):
        download(f"models:/{NAME}/9", tmp_path / "to")


def test_what_the_user_has_set_stays(monkeypatch):
    for name in (*CLIENT_DEFAULTS, "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv(DOWNLOAD, "true")
    prepare_client()
    answer_soon()
    assert {name: os.environ[name] for name in CLIENT_DEFAULTS} == CLIENT_DEFAULTS | {DOWNLOAD: "true"}
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
