"""A run whose data have not changed since the champion, through kfp.local: it ends well and trains nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from tests.pipeline.conftest import clean_environment, sella_command
from tests.pipeline.local.test_run import runs_of
from tests.registering import register_bundle

_REASON = "no drift since sella-rec version 1 (no newer interactions)"


@pytest.fixture
def champion_of_the_same_data(small_data: Path, fresh_store: Callable[[], str], tmp_path: Path) -> mlflow.MlflowClient:
    """A registry in this folder whose champion is nothing but the training reference of the small ratings."""
    shutil.copyfile(fresh_store().removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    version = register_bundle(f"sqlite:///{tmp_path / 'mlflow.db'}", small_data, tmp_path)
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(version.name, "champion", version.number)
    return client


@pytest.mark.slow
def test_a_run_without_drift_trains_nothing_and_says_why(champion_of_the_same_data, config_file, tmp_path):
    command = sella_command("run", "--config", str(config_file), "--set", "retrain.policy=on-drift")
    done = subprocess.run(command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Nothing to do: {_REASON}." in done.stdout
    assert "train-collab" not in done.stdout
    (run,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    assert json.loads((run / "summary.json").read_text())["nothing_to_do"] == _REASON
    assert "Nothing to do" in (run / "drift.html").read_text()
    assert not (tmp_path / "runs/latest").exists(), "a run without a model must not stand for the last model"

    tracked = runs_of(champion_of_the_same_data, run.name)
    ran = ("pipeline", "configure", "find-champion", "prepare-data", "check-drift")
    assert {step: found.info.status for step, found in tracked.items()} == dict.fromkeys(ran, "FINISHED")
    assert tracked["pipeline"].data.tags["sella.retrain"] == "no"
    assert tracked["pipeline"].data.tags["mlflow.note.content"] == f"Nothing to do: {_REASON}."

    again = subprocess.run(
        sella_command("run", "--resume"), cwd=tmp_path, env=clean_environment(), capture_output=True, text=True
    )
    assert "has finished" in again.stderr
