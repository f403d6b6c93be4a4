"""The registered challenger: found by its alias, loadable in a fresh process, with the bundle's own scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from components.core.bundle import load_bundle
from components.core.config import Config
from components.core.ranking import Ranker, Request
from components.core.registry import CHALLENGER
from components.core.tracking import Tracker
from components.promote.register import example_input
from components.promote.step import promote

_LOAD = """
import sys, mlflow, pandas
model = mlflow.pyfunc.load_model("models:/sella-rec@challenger")
model.predict(pandas.read_csv(sys.argv[1], dtype=str)).to_csv(sys.argv[2], index=False)
"""


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    values = {"auc": 0.71234, "uauc": None}
    (folder / "summary.json").write_text(json.dumps({"arms": {"sella": {"all": values}}}))
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


def test_a_fresh_process_loads_it_and_scores_alike(registered, fused, tmp_path):
    bundle = load_bundle(fused, "cpu")
    users, items = bundle.users["user_id"].to_list(), bundle.items["item_id"].to_list()
    # users mixed, so that an answer out of order would show
    asked = pd.DataFrame(
        {"user_id": [users[0], users[5], users[0], users[5]], "item_id": [items[i] for i in (3, 3, 9, 20)]}
    )
    asked.to_csv(tmp_path / "asked.csv", index=False)
    command = [sys.executable, "-c", _LOAD, str(tmp_path / "asked.csv"), str(tmp_path / "scores.csv")]
    # the model carries its own code: the installed package is not what is meant to answer
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "scores.csv")["score"]
    pairs = zip(asked["user_id"], asked["item_id"], strict=True)
    expected = [Ranker(bundle).rank([Request(user, candidates=(item,))])[0].scores[0] for user, item in pairs]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nothing_in_the_model_is_a_pickle(registered, server):
    import mlflow

    folder = Path(mlflow.artifacts.download_artifacts(f"models:/sella-rec@{CHALLENGER}"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "soft_tokens.safetensors" for path in files)
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".bin", ".pt", ".pth")]


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


def test_the_example_holds_ids_that_the_bundle_knows(fused):
    example, bundle = example_input(fused), load_bundle(fused, "cpu")
    assert list(example.columns) == ["user_id", "item_id"]
    assert set(example["user_id"]) <= set(bundle.users["user_id"])
    assert set(example["item_id"]) <= set(bundle.items["item_id"])
