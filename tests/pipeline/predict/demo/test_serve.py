from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.predict.demo import serve
from sella_rec.tracking.registry import ModelVersion


@pytest.fixture
def shown(monkeypatch):
    """The applications that uvicorn was asked to run, and on which address."""
    asked = []
    monkeypatch.setattr(serve.uvicorn, "run", lambda app, host, port, **_: asked.append((app, host, port)))
    return asked


def name_of(application):
    return TestClient(application, base_url="http://127.0.0.1").get("/model").json()["name"]


def test_a_bundle_is_shown_on_this_machine_only(fused, shown):
    done = CliRunner().invoke(app, ["demo", "--bundle", str(fused), "--port", "8001"])
    assert done.exit_code == 0, done.output
    ((application, host, port),) = shown
    assert (name_of(application), host, port) == (str(fused), "127.0.0.1", 8001)


def test_the_champion_is_shown_by_name_and_version(fused, shown, monkeypatch):
    monkeypatch.setattr(serve, "fetch_champion", lambda name: (fused, ModelVersion(name, "7", "m-1")))
    assert CliRunner().invoke(app, ["demo", "--champion"]).exit_code == 0
    assert name_of(shown[0][0]) == "sella-rec version 7"


def test_champion_and_bundle_are_not_given_together(fused):
    refused = CliRunner().invoke(app, ["demo", "--champion", "--bundle", str(fused)])
    assert refused.exit_code == 2
    assert "not both" in refused.output


def test_without_a_registry_the_champion_is_missed_in_one_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    missed = CliRunner().invoke(app, ["demo", "--champion"])
    assert missed.exit_code == 1
    assert "mlflow.db" in missed.output
