"""The whole DAG through kfp.local on small data with a tiny LLM: results, tracking, cache, failure, a kill."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest

from pipeline.steps import STEPS
from tests.pipeline.conftest import clean_environment, sella_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ARMS = {"mf", "lightgcn", "text_only", "sella"}
MEASURES = {"auc", "uauc", "ndcg", "map", "rows", "users", "uauc_ci"}


@pytest.fixture
def summary(first_folder: Path) -> dict[str, Any]:
    return json.loads((first_folder / "summary.json").read_text())


@pytest.fixture
def client(workplace: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{workplace / 'mlflow.db'}")


def runs_of(client: Any, run_id: str) -> dict[str, Any]:
    experiment = client.get_experiment_by_name("sella-rec")
    found = client.search_runs([experiment.experiment_id], f"tags.`sella.run` = '{run_id}'")
    return {run.data.tags["sella.step"]: run for run in found}


def test_the_summary_keeps_its_contract(summary):
    expected = {"arms", "paired", "steps", "seconds", "peak_rss_mb", "config", "mlflow", "model", "decision"}
    assert set(summary) == expected
    assert set(summary["arms"]) == ARMS
    for slices in summary["arms"].values():
        assert set(slices) == {"all", "warm", "cold"}
        assert all(set(values) == MEASURES for values in slices.values())
        low, high = slices["all"]["uauc_ci"]
        assert 0 <= low <= slices["all"]["uauc"] <= high <= 1
    assert set(summary["paired"]) == {f"sella-vs-{arm}" for arm in ARMS - {"sella"}}
    assert all(set(pair) == {"uauc_diff", "ci"} for pair in summary["paired"].values())
    assert list(summary["steps"]) == list(STEPS)
    assert all(entry["seconds"] > 0 and entry["peak_rss_mb"] > 10 for entry in summary["steps"].values())
    assert summary["peak_rss_mb"] == max(entry["peak_rss_mb"] for entry in summary["steps"].values())
    assert summary["seconds"] >= sum(entry["seconds"] for entry in summary["steps"].values())
    assert summary["config"]["backbone"]["dtype"] == "float32"
    assert set(summary["mlflow"]) == {"tracking_uri", "experiment", "run_id"}
    assert summary["model"] == {"name": "sella-rec", "version": "1"}


def test_the_command_prints_the_arms_and_where_to_look(first_run):
    printed = first_run[0].stdout
    for text in ("SeLLa-Rec", "LightGCN", "text-only LLM", "runs/", "report.html", "sella recommend", "tune-llm: done"):
        assert text in printed


def test_a_run_leaves_predictions_report_logs_and_a_bundle_that_answers(summary, first_folder, sella):
    rows = pl.read_parquet(first_folder / "predictions.parquet")
    assert rows.columns == ["arm", "user_id", "item_id", "timestamp", "label", "score", "warm"]
    assert dict(rows["arm"].value_counts().iter_rows()) == dict.fromkeys(ARMS, summary["arms"]["sella"]["all"]["rows"])
    assert "SeLLa-Rec" in (first_folder / "report.html").read_text()
    assert {path.name for path in (first_folder / "logs").iterdir()} == {f"{s}.log" for s in (*STEPS, "pipeline")}

    recommended = sella("recommend", "1", "--top", "3", "--bundle", str(first_folder / "bundle"))
    assert recommended.returncode == 0, recommended.stderr
    lines = [line.split("│")[1:-1] for line in recommended.stdout.splitlines() if line.startswith("│")]
    scores = [float(cells[1]) for cells in lines]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    scored = sella("score", "--user", "1", "--item", lines[0][2].strip(), "--bundle", str(first_folder / "bundle"))
    assert float(scored.stdout.splitlines()[1].split(",")[2]) == pytest.approx(scores[0], abs=6e-4)


def test_mlflow_has_one_parent_and_a_child_per_step(summary, first_run, client):
    runs = runs_of(client, first_run[1])
    parent = runs.pop("pipeline")
    assert parent.info.run_id == summary["mlflow"]["run_id"]
    assert set(runs) == set(STEPS)
    assert {child.data.tags["mlflow.parentRunId"] for child in runs.values()} == {parent.info.run_id}
    assert {run.info.status for run in [parent, *runs.values()]} == {"FINISHED"}
    assert parent.data.params["fuse.max_labels"] == "80"
    assert {entry.dataset.name for entry in parent.inputs.dataset_inputs} == {"train", "valid", "test"}
    assert "report.html" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert runs["tune-llm"].data.metrics["seconds"] == pytest.approx(summary["steps"]["tune-llm"]["seconds"])


def test_the_challenger_is_registered_and_what_became_of_it_is_told(summary, first_run, first_folder, client):
    decision, version = summary["decision"], client.get_model_version("sella-rec", summary["model"]["version"])
    assert version.tags["sella.run"] == first_run[1]
    assert client.get_model_version_by_alias("sella-rec", "challenger").version
    rivals = [check["measured"]["rival"] for check in decision["checks"] if check["name"] == "UAUC"]
    assert rivals == ["MF", "LightGCN"]
    said = "promoted" if decision["promoted"] else "not promoted"
    parent = runs_of(client, first_run[1])["pipeline"]
    for tags in (version.tags, parent.data.tags):
        assert (tags["sella.decision"], tags["sella.reason"]) == (said, decision["reason"])
    assert "promotion.html" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert f">{said}<" in (first_folder / "promotion.html").read_text()
    for reason in decision["reason"].split("; "):
        assert f"  {reason}\n" in first_run[0].stdout


def test_a_second_run_asks_the_registry_scores_the_champion_and_takes_the_rest_from_the_cache(
    summary, sella, config_file, workplace, first_folder, client
):
    assert sella("promote", "1").returncode == 0
    again = sella("run", "--config", str(config_file))
    assert again.returncode == 0, again.stdout + again.stderr
    for step in set(STEPS) - {"configure", "find-champion", "check-drift", "score-champion", "promote"}:
        assert f"{step}: cached" in again.stdout
    latest = workplace / "runs/latest"
    second = json.loads((latest / "summary.json").read_text())
    assert second["arms"] == summary["arms"]
    assert second["mlflow"]["run_id"] != summary["mlflow"]["run_id"]
    assert second["model"]["version"] != summary["model"]["version"]
    # the champion came out of the registry, and scores as its training run did
    (scored,) = latest.glob("steps/*/score-champion/champion_scores/predictions.parquet")
    trained = pl.read_parquet(first_folder / "predictions.parquet").filter(arm="sella")
    champion = pl.read_parquet(scored)
    assert champion.drop("score").equals(trained.select(champion.drop("score").columns))
    np.testing.assert_allclose(champion["score"], trained["score"], atol=1e-5)
    assert "the model is the same as the champion, sella-rec version 1" in second["decision"]["reason"]
    assert str(client.get_model_version_by_alias("sella-rec", "champion").version) == "1"
    assert "was not promoted (champion: version 1)" in again.stdout


def test_a_failing_step_is_named_with_its_traceback_and_log(first_run, sella, config_file, workplace, client):
    failed = sella("run", "--config", str(config_file), "--set", "data.like_threshold=9")
    assert failed.returncode == 1
    for text in ("Step prepare-data failed", "Traceback", "DataError", "like_threshold"):
        assert text in failed.stderr
    newest = max(path for path in (workplace / "runs").iterdir() if not path.is_symlink())
    assert newest.name != first_run[1]
    assert f"runs/{newest.name}/logs/prepare-data.log" in failed.stderr
    assert "DataError" in (newest / "logs/prepare-data.log").read_text()
    statuses = {step: run.info.status for step, run in runs_of(client, newest.name).items()}
    finished = dict.fromkeys(("configure", "find-champion"), "FINISHED")
    assert statuses == {"pipeline": "FAILED", **finished, "prepare-data": "FAILED"}


def test_a_run_killed_in_training_goes_on_to_the_same_scores(first_folder, sella, config_file, workplace):
    # without the cache of the first run, so that everything is done again
    with start(workplace, "run", "--config", str(config_file), "--no-cache") as process:
        run = workplace / "runs" / process.stdout.readline().split(":")[0].removeprefix("Run ")
        wait_for(lambda: any(run.glob("cache/checkpoints/tune-llm-*/checkpoint-*/trainer_state.json")), process)
        kill_with_children(process)
    assert not (run / "summary.json").exists()

    resumed = sella("run", "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "prepare-data: cached" in resumed.stdout
    assert "continuing from" in (run / "logs/tune-llm.log").read_text()
    undisturbed, after = (pl.read_parquet(folder / "predictions.parquet") for folder in (first_folder, run))
    assert after.drop("score").equals(undisturbed.drop("score"))
    np.testing.assert_allclose(after["score"], undisturbed["score"], rtol=0, atol=1e-6)

    finished = sella("run", "--resume")
    assert finished.returncode == 1
    assert "has finished" in finished.stderr


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = sella_command(*arguments)
    return subprocess.Popen(command, cwd=folder, env=clean_environment(), stdout=subprocess.PIPE, text=True)


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)


def kill_with_children(process: subprocess.Popen[str]) -> None:
    everyone = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for one in everyone:
        one.kill()
    psutil.wait_procs(everyone, timeout=10)


def test_stopping_a_run_ends_its_steps_and_closes_it_as_killed(first_folder, config_file, workplace, client):
    with start(workplace, "run", "--config", str(config_file), "--no-cache") as process:
        run = workplace / "runs" / process.stdout.readline().split(":")[0].removeprefix("Run ")
        wait_for(lambda: "prepare-data" in runs_of(client, run.name), process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    assert children
    assert not psutil.wait_procs(children, timeout=10)[1]
    statuses = {step: found.info.status for step, found in runs_of(client, run.name).items()}
    assert statuses["pipeline"] == "KILLED"
    assert "RUNNING" not in statuses.values()
    assert (workplace / "runs/latest").resolve() != run


def test_two_runs_at_once_in_one_folder_are_refused(tmp_path, config_file):
    (tmp_path / "runs").mkdir()
    with (tmp_path / "runs/.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = sella_command("run", "--config", str(config_file))
        refused = subprocess.run(command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True)
    assert refused.returncode == 1
    assert "another `sella run` is active" in refused.stderr
    assert "Traceback" not in refused.stderr
