"""How a pipeline's MLflow run is closed: by the word that Kubeflow Pipelines has for its end, or by its steps."""

from __future__ import annotations

import logging
import uuid

import pytest

from components.finish.step import close_run
from sella_rec.tracking.runs import close_step_run, open_step_run


@pytest.fixture(scope="module")
def store(fresh_store):
    return fresh_store()


@pytest.fixture
def client(store, monkeypatch, tmp_path):
    import mlflow
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "SELLA_LOCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("KFP_RUN_ID", uuid.uuid4().hex)
    mlflow.set_tracking_uri(store)
    yield MlflowClient(store)
    mlflow.end_run()


def run_steps(steps):
    """Steps that ended so, in MLflow; the id of their parent."""
    for step, status in steps.items():
        run = open_step_run(step)
        close_step_run(status)
        run.client.update_run(run.run_id, status=status)
    return run.parent_id


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("SUCCEEDED", "FINISHED"),
        ("COMPLETE", "FINISHED"),
        ("CACHED", "FINISHED"),
        ("FAILED", "FAILED"),
        ("CANCELLED", "KILLED"),
        ("CANCELED", "KILLED"),
    ],
)
def test_every_word_for_an_end_is_known(client, word, status):
    # of which the steps would say otherwise
    parent = run_steps({"promote" if status == "FAILED" else "evaluate": "FINISHED"})
    close_run(word)
    assert client.get_run(parent).info.status == status


@pytest.mark.parametrize("word", ["RUNNING", "STATE_UNSPECIFIED"])
@pytest.mark.parametrize(
    ("steps", "retrain", "status"),
    [
        ({"check-drift": "FINISHED"}, "no", "FINISHED"),
        ({"fuse": "FINISHED", "promote": "FINISHED"}, "yes", "FINISHED"),
        ({"load-champion": "FINISHED", "summarize": "FINISHED"}, None, "FINISHED"),
        ({"check-drift": "FINISHED", "fuse": "FAILED"}, "yes", "FAILED"),
        ({"tune-llm": "KILLED", "train-collab": "FAILED"}, "yes", "FAILED"),
        ({"check-drift": "FINISHED", "fuse": "KILLED"}, "yes", "KILLED"),
        ({"check-drift": "FINISHED", "fuse": "RUNNING"}, "yes", "KILLED"),
        ({"check-drift": "FINISHED", "fuse": "FINISHED"}, "yes", "FAILED"),
        ({"find-champion": "FINISHED"}, None, "FAILED"),
    ],
)
def test_a_word_that_tells_nothing_is_looked_up_in_the_steps(client, word, steps, retrain, status):
    parent = run_steps(steps)
    if retrain:
        client.set_tag(parent, "sella.retrain", retrain)
    close_run(word)
    closed = client.get_run(parent)
    assert closed.info.status == status
    children = client.search_runs([closed.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert "RUNNING" not in {child.info.status for child in children}


def test_a_server_that_is_away_fails_no_run_that_has_ended(monkeypatch, caplog):
    import mlflow

    for name in ("MLFLOW_RUN_ID", "SELLA_LOCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING):
        close_run("FAILED")
    assert "the pipeline's MLflow run stays as it is: MLflow cannot be used" in caplog.text
