"""The challenger: registered once a run, found by its alias, shown with the pipeline."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from components.promote.step import promote
from sella_rec.config import Config
from sella_rec.tracking.registry import CHALLENGER
from sella_rec.tracking.tracker import Tracker


@pytest.fixture(scope="module")
def evaluation(summary: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    planted = copy.deepcopy(summary)
    planted["arms"]["sella"]["all"] |= {"auc": 0.71234, "uauc": None}
    (folder / "summary.json").write_text(json.dumps(planted))
    rows = {"user_id": [1, 1, 2], "item_id": [1, 2, 3], "timestamp": [1, 2, 3], "label": [0, 1, 1]}
    arms = [pl.DataFrame(rows).with_columns(arm=pl.lit(arm), score=0.5) for arm in ("mf", "lightgcn", "sella")]
    pl.concat(arms).write_parquet(folder / "predictions.parquet")
    return folder


def promoted_version(bundle: Path, evaluation: Path) -> str:
    return promote(Config(), bundle, evaluation, Path("nowhere"), "", Tracker()).version


@pytest.fixture(scope="module")
def server(fresh_store: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A SQLite store that this process tracks to."""
    import mlflow

    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", fresh_store())
        patch.setenv("KFP_RUN_ID", "first")
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.chdir(folder)
        mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
        # in the environment, and not by set_experiment(), which would stay set for the tests that follow
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "sella-rec")
        yield mlflow.MlflowClient()


@pytest.fixture(scope="module")
def registered(server: Any, fused: Path, evaluation: Path) -> list[str]:
    """Versions from two attempts of one pipeline run."""
    import mlflow

    versions = []
    with mlflow.start_run() as parent:
        server.set_tag(parent.info.run_id, "test", "parent")
    for _attempt in range(2):
        with mlflow.start_run(parent_run_id=parent.info.run_id):
            versions.append(promoted_version(fused, evaluation))
    return versions


def test_a_retried_step_registers_once(registered, server):
    assert registered == ["1", "1"]
    version = server.get_model_version_by_alias("sella-rec", CHALLENGER)
    assert str(version.version) == "1"
    assert version.tags["test_auc"] == "0.7123"
    assert version.tags["sella.run"] == "first"


def test_the_pipelines_page_shows_the_model(registered, server):
    experiment = server.get_experiment_by_name("sella-rec")
    parent = server.search_runs([experiment.experiment_id], "tags.test = 'parent'")[0]
    assert len(parent.outputs.model_outputs) == 1


def test_another_run_is_another_version_and_the_challenger(registered, server, fused, evaluation, monkeypatch):
    import mlflow

    monkeypatch.setenv("KFP_RUN_ID", "second")
    with mlflow.start_run():
        assert promoted_version(fused, evaluation) == "2"
    assert str(server.get_model_version_by_alias("sella-rec", CHALLENGER).version) == "2"


def test_without_a_server_it_says_so(fused, evaluation, monkeypatch, caplog):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert promoted_version(fused, evaluation) == ""
    assert "MLFLOW_TRACKING_URI is not set" in caplog.text
