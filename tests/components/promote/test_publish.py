"""What a run's page in MLflow shows of its result."""

from __future__ import annotations

import json

import mlflow
import pytest

from components.promote.publish import log_outcome
from sella_rec.config import Config
from sella_rec.tracking.runs import close_step_run, describe_pipeline_run, open_step_run


@pytest.fixture
def client(fresh_store, monkeypatch, request, tmp_path):
    monkeypatch.chdir(tmp_path)
    store = fresh_store()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("KFP_RUN_ID", request.node.name)
    mlflow.set_tracking_uri(store)
    yield mlflow.MlflowClient()
    mlflow.end_run()
    mlflow.set_tracking_uri(None)


def test_the_outcome_of_the_comparison_is_the_parents(client, tmp_path):
    values = {"auc": 0.7, "uauc": 0.6, "ndcg": None, "map": 0.5, "rows": 9, "users": 3, "uauc_ci": [0.5, 0.7]}
    arms = {arm: {"all": values, "cold": values | {"uauc": None, "uauc_ci": None}} for arm in ("mf", "sella")}
    (tmp_path / "summary.json").write_text(json.dumps({"arms": arms}))
    (tmp_path / "report.html").write_text("<p>")
    run = open_step_run("promote")
    describe_pipeline_run(run, Config(), "abc")
    for _attempt in range(2):
        log_outcome(run, tmp_path)
    close_step_run("FINISHED")
    metrics = client.get_run(run.parent_id).data.metrics
    assert metrics["sella/all/auc"] == 0.7
    assert "sella/all/ndcg" not in metrics
    assert metrics["mf/cold/rows"] == 9
    assert "| sella | 0.7000 | 0.6000 | - | 0.5000 |" in client.get_run(run.parent_id).data.tags["mlflow.note.content"]
    assert {file.path for file in client.list_artifacts(run.parent_id)} >= {"arms.json", "report.html", "config.yaml"}
