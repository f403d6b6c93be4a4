"""Why a step failed, where Kubernetes and MLflow carry it."""

from __future__ import annotations

import os

import pytest

from sella_rec.config import Config, ConfigError
from sella_rec.errors import UserError
from sella_rec.runtime.step import running, whole_settings

CONFIG = Config().to_json()


class NoSuchColumn(UserError):  # noqa: N818 (any name does)
    """What a user can fix."""


@pytest.fixture(autouse=True)
def termination_log(tmp_path, monkeypatch):
    """The file that Kubernetes makes in every container."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "SELLA_LOCK", "SELLA_LOGS", "SELLA_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    file = tmp_path / "termination-log"
    file.touch()
    monkeypatch.setenv("SELLA_TERMINATION_LOG", str(file))
    return file


@pytest.fixture
def client(fresh_store, monkeypatch, tmp_path):
    import mlflow
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    store = fresh_store()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    mlflow.set_tracking_uri(store)
    yield MlflowClient(store)
    mlflow.end_run()


def fail(error):
    with pytest.raises(type(error)), running("prepare-data", whole_settings(CONFIG)):
        raise error


def step_run(client):
    experiment = client.get_experiment_by_name("sella-rec").experiment_id
    (run,) = client.search_runs([experiment], "tags.`sella.step` = 'prepare-data'")
    return run


def test_a_users_error_is_told_in_its_own_words(termination_log, client):
    fail(NoSuchColumn("data.columns.title = Titel: no such column"))
    assert termination_log.read_text() == "data.columns.title = Titel: no such column"
    run = step_run(client)
    assert run.info.status == "FAILED"
    assert run.data.tags["sella.error"] == "data.columns.title = Titel: no such column"
    assert run.data.tags["sella.error_type"] == "NoSuchColumn"


def test_any_other_error_is_told_with_its_type(termination_log, client):
    fail(KeyError("user_id"))
    assert termination_log.read_text() == "KeyError: 'user_id'"
    assert step_run(client).data.tags["sella.error"] == "KeyError: 'user_id'"


def test_a_configuration_that_is_none_is_told_too_in_a_run_of_its_own(termination_log, client):
    with (
        pytest.raises(ConfigError, match="epochs"),
        running("prepare-data", whole_settings('{"tune": {"epochs": "many"}}')),
    ):
        pytest.fail("the step's own work was begun")
    assert "tune.epochs" in termination_log.read_text()
    run = step_run(client)
    assert (run.info.status, run.data.tags["sella.error"]) == ("FAILED", termination_log.read_text())


def test_what_is_too_long_is_cut_between_characters(termination_log, client):
    fail(NoSuchColumn("é" * 6000))
    assert termination_log.read_bytes() == ("é" * 2048).encode()
    assert step_run(client).data.tags["sella.error"] == "é" * 5000


def test_no_secret_is_told(termination_log, client, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    fail(ValueError("http://sella:hunter2@mlflow:5000 refused; wJalrXUtnFEMI and hf_0123456789 were sent"))
    expected = "ValueError: http://mlflow:5000 refused; *** and *** were sent"
    assert termination_log.read_text() == step_run(client).data.tags["sella.error"] == expected


def test_a_step_that_succeeds_or_is_asked_to_end_says_nothing(termination_log, client):
    with running("prepare-data", whole_settings(CONFIG)):
        pass
    with pytest.raises(SystemExit), running("prepare-data", whole_settings(CONFIG)):
        raise SystemExit(143)
    assert termination_log.read_text() == ""
    assert "sella.error" not in step_run(client).data.tags


def test_the_steps_own_error_is_raised_where_its_reason_cannot_be_left(monkeypatch, tmp_path):
    import mlflow

    # a folder cannot be written to as a file, and nobody answers there
    monkeypatch.setenv("SELLA_TERMINATION_LOG", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    with (
        pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI = http://127\.0\.0\.1:9 cannot be used"),
        running("prepare-data", whole_settings(CONFIG)),
    ):
        pytest.fail("the step's own work was begun")
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1", "a server that is away is not waited for twice"


def test_outside_a_container_there_is_nothing_to_write_to(monkeypatch, tmp_path):
    monkeypatch.setenv("SELLA_TERMINATION_LOG", str(tmp_path / "none"))
    fail(KeyError("user_id"))
    assert not (tmp_path / "none").exists()
