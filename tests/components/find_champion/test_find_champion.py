from __future__ import annotations

from collections.abc import Callable

import pytest

from components.find_champion.step import find_champion
from sella_rec.config import Config
from sella_rec.tracking.promotions import replace_champion
from sella_rec.tracking.registry import ModelVersion
from sella_rec.tracking.tracker import Tracker


def test_the_champion_of_the_configured_model_in_one_string(fresh_store: Callable[[], str], monkeypatch):
    import mlflow

    uri = fresh_store()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    config = Config.model_validate({"promote": {"model_name": "books"}})
    assert find_champion(config, Tracker()) == ""
    client.create_registered_model("books")
    client.create_model_version("books", source="s3://models/any")
    assert find_champion(config, Tracker()) == ""
    replace_champion(client, "books", "", "1", "first")
    assert ModelVersion.parse(find_champion(config, Tracker())) == ModelVersion("books", "1", "")
    assert find_champion(Config(), Tracker()) == ""


def test_without_a_server_there_is_none_and_the_log_says_so(monkeypatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert find_champion(Config(), Tracker()) == ""
    assert "MLFLOW_TRACKING_URI is not set" in caplog.text
