"""Runs of a pipeline run in MLflow, on a SQLite store: one parent, one child per step, however often a step starts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sella_rec.config import Config
from sella_rec.tracking import runs as mlflow_runs
from sella_rec.tracking.progress_file import ProgressFile, read_progress
from sella_rec.tracking.runs import (
    TrackingError,
    close_pipeline_run,
    close_step_run,
    describe_pipeline_run,
    open_step_run,
)
from sella_rec.tracking.tracker import StepTracker, Tracker


@pytest.fixture(scope="module")
def store(fresh_store: Callable[[], str]) -> str:
    return fresh_store()


@pytest.fixture
def client(store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: Any) -> Iterator[Any]:
    """A client on the store; this process works as a step of a pipeline run named after the test."""
    import mlflow
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "KFP_MLFLOW_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("KFP_RUN_ID", request.node.name)
    mlflow.set_tracking_uri(store)
    yield MlflowClient(store)
    mlflow.end_run()


def all_runs(client: Any, name: str) -> list[Any]:
    experiment = client.get_experiment_by_name("sella-rec")
    return client.search_runs([experiment.experiment_id], f"tags.`sella.run` = '{name}'")


def test_a_step_tried_again_goes_on_in_its_run(client, request):
    config, ids = Config(seed=7), set()
    for _attempt in range(2):
        run = open_step_run("tune-llm")
        describe_pipeline_run(run, config, "abc")
        ids.add((run.parent_id, run.run_id))
        assert run.resumed == (_attempt == 1)
        tracker = StepTracker(run=run)
        # the second attempt starts from a checkpoint before its predecessor's end, and may find other numbers
        for step in range(_attempt * 2, 4 + _attempt):
            tracker.metrics({"train_loss": 10 * _attempt + step}, step)
        tracker.params({"rows": 5, "attempt": _attempt})
        tracker.flush()
        close_step_run("FAILED" if _attempt == 0 else "FINISHED")
    assert len(ids) == 1
    parent_id, run_id = ids.pop()
    assert {run.info.run_id for run in all_runs(client, request.node.name)} == {parent_id, run_id}
    child = client.get_run(run_id)
    assert child.info.status == "FINISHED"
    assert child.data.tags["mlflow.parentRunId"] == parent_id
    assert child.data.params == {"rows": "5", "attempt": "0"}
    history = client.get_metric_history(run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 14)]
    parent = client.get_run(parent_id)
    assert parent.data.params["seed"] == "7"
    assert parent.data.params["collab.mf.patience"] == str(config.collab.mf.patience)
    assert parent.data.tags["sella.code_version"] == "abc"


def test_steps_share_a_parent_and_closing_ends_what_still_runs(client, request):
    runs = []
    for step in ("prepare-data", "train-collab", "fuse"):
        runs.append(open_step_run(step))
        if step != "fuse":
            close_step_run("FINISHED")
    assert len({run.parent_id for run in runs}) == 1
    close_pipeline_run("FAILED")
    found = {run.data.tags["sella.step"]: run.info.status for run in all_runs(client, request.node.name)}
    assert found == {"pipeline": "FAILED", "prepare-data": "FINISHED", "train-collab": "FINISHED", "fuse": "FAILED"}


def test_two_steps_that_both_make_the_parent_settle_on_one(client, request):
    run = open_step_run("tune-llm")
    close_step_run("FINISHED")
    parent = client.get_run(run.parent_id)
    # what a step sees that looked before the other's parent was there: none, and then both
    looks = iter([[], [parent]])

    class Late:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def search_runs(self, *_: Any) -> Any:
            return next(looks)

    late: Any = Late()
    chosen, found = mlflow_runs._by_tags(late, parent.info.experiment_id, request.node.name, "pipeline", "p", {})
    assert (chosen.info.run_id, found) == (run.parent_id, False)
    assert sum(r.data.tags["sella.step"] == "pipeline" for r in all_runs(client, request.node.name)) == 1


def test_an_injected_run_is_attached_to(client, monkeypatch):
    experiment = client.create_experiment("by the platform")
    parent = client.create_run(experiment)
    injected = client.create_run(experiment, tags={"mlflow.parentRunId": parent.info.run_id})
    monkeypatch.setenv("MLFLOW_RUN_ID", injected.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    run = open_step_run("fuse")
    assert (run.run_id, run.parent_id) == (injected.info.run_id, parent.info.run_id)
    assert run.experiment == "by the platform"
    close_step_run("FINISHED")
    # in another process, with a run of its own
    monkeypatch.setenv("MLFLOW_RUN_ID", injected.info.run_id)
    close_pipeline_run("FAILED")
    assert client.get_run(parent.info.run_id).info.status == "RUNNING", "the platform's own run is left to it"
    assert len(client.search_runs([experiment])) == 2


@pytest.fixture
def plugin(client: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, str]]:
    """`plugin(step)`: as Kubeflow's plug-in does, a run of its own per level; ids by the levels' names. A step's
    environment is this process's."""
    experiment = client.create_experiment(f"by the plug-in for {os.environ['KFP_RUN_ID']}")
    about = {"kfp.pipeline_run_id": "r-1", "kfp.pipeline_id": "p-1", "kfp.pipeline_run_url": ""}
    ids: dict[str, str] = {}

    def make(name: str, parent: str | None = None) -> str:
        if name not in ids:
            tags = {"mlflow.parentRunId": ids[parent]} if parent else about
            ids[name] = client.create_run(experiment, tags=tags, run_name=name).info.run_id
        return ids[name]

    def start(step: str) -> dict[str, str]:
        root = make("sella-rec nightly")
        make("exit-handler-1", "sella-rec nightly")
        make("condition-2", "exit-handler-1")
        monkeypatch.setenv("MLFLOW_RUN_ID", make(step, "condition-2"))
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
        told = {"endpoint": os.environ["MLFLOW_TRACKING_URI"], "parentRunId": root, "experimentId": experiment}
        monkeypatch.setenv("KFP_MLFLOW_CONFIG", json.dumps(told))
        return ids

    return start


def test_under_the_plug_in_everything_of_the_run_lands_on_its_root(client, plugin, monkeypatch, tmp_path):
    from components.promote.publish import log_decision
    from components.promote.register import _show_with_the_pipeline

    monkeypatch.setenv("SELLA_GIT_COMMIT", "c0ffee")
    cached = {"prepare-data": {"run": "another", "mlflow_run_id": "0123"}}
    page = tmp_path / "decision.html"
    page.write_text("<p>")
    for step in ("train-collab", "promote"):
        ids = plugin(step)
        run = open_step_run(step)
        assert (run.run_id, run.parent_id) == (ids[step], ids["sella-rec nightly"])
        describe_pipeline_run(run, Config(seed=7), "abc")
        mlflow_runs.link_reused(run, cached)
        if step == "promote":
            log_decision(run, page, {"sella.decision": "promoted"})
            logged = client.create_logged_model(run_experiment(client, run), "sella-rec", run.run_id)
            _show_with_the_pipeline(client, SimpleNamespace(run_id=run.run_id, model_id=logged.model_id))
        close_step_run("FINISHED")
    root = client.get_run(ids["sella-rec nightly"])
    assert root.data.params == mlflow_runs.flatten(Config(seed=7).model_dump(mode="json"))
    expected = {
        "sella.step": "pipeline",
        "sella.run": os.environ["KFP_RUN_ID"],
        "sella.code_version": "abc",
        "mlflow.source.git.commit": "c0ffee",
        "sella.reused.prepare-data": "0123",
        "sella.decision": "promoted",
        "kfp.pipeline_run_id": "r-1",
    }
    assert root.data.tags.items() >= expected.items()
    assert {file.path for file in client.list_artifacts(root.info.run_id)} == {"config.yaml", "promotion.html"}
    assert [each.model_id for each in root.outputs.model_outputs] == [logged.model_id]
    for group in ("exit-handler-1", "condition-2"):
        between = client.get_run(ids[group])
        assert between.data.tags["sella.step"] == "group"
        assert (between.data.params, between.data.metrics, client.list_artifacts(ids[group])) == ({}, {}, [])
    assert client.get_run(ids["promote"]).data.tags["sella.step"] == "promote"


def run_experiment(client: Any, run: Any) -> str:
    return client.get_run(run.run_id).info.experiment_id


def test_the_pipelines_run_is_found_from_any_level(client, plugin):
    ids = plugin("promote")
    for name in ids:
        assert mlflow_runs.pipeline_run_of(client, ids[name]).info.run_id == ids["sella-rec nightly"]
    # a pipeline's run that somebody has put below one of their own is still where its parameters are
    outer = client.create_run(client.get_run(ids["promote"]).info.experiment_id)
    client.set_tag(ids["sella-rec nightly"], "mlflow.parentRunId", outer.info.run_id)
    assert mlflow_runs.pipeline_run_of(client, ids["promote"]).info.run_id == outer.info.run_id
    open_step_run("promote")
    close_step_run("FINISHED")
    assert mlflow_runs.pipeline_run_of(client, ids["promote"]).info.run_id == ids["sella-rec nightly"]
    assert "sella.step" not in client.get_run(outer.info.run_id).data.tags


@pytest.mark.parametrize("told", ["{", "[]"])
def test_a_platform_that_says_nonsense_is_named(plugin, monkeypatch, told):
    plugin("fuse")
    monkeypatch.setenv("KFP_MLFLOW_CONFIG", told)
    with pytest.raises(TrackingError, match=r"KFP_MLFLOW_CONFIG = .* is no JSON object"):
        open_step_run("fuse")


def test_the_clusters_server_is_taken_where_none_is_injected(client, store, monkeypatch, request):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("SELLA_MLFLOW_TRACKING_URI", store)
    assert open_step_run("fuse") is not None
    close_step_run("FINISHED")
    assert len(all_runs(client, request.node.name)) == 2


def test_an_injected_server_goes_before_the_clusters(client, monkeypatch, request):
    monkeypatch.setenv("SELLA_MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert open_step_run("fuse") is not None
    close_step_run("FINISHED")
    assert len(all_runs(client, request.node.name)) == 2


def test_without_a_server_nothing_is_tracked(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert open_step_run("fuse") is None
    close_pipeline_run("FINISHED")


def test_a_server_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("KFP_RUN_ID", "x")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    import mlflow

    mlflow.set_tracking_uri("http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"MLFLOW_TRACKING_URI = http://127.0.0.1:9 cannot be used"):
        open_step_run("fuse")


def test_names_and_values_that_mlflow_refuses(client):
    run = open_step_run("evaluate")
    tracker = StepTracker(run=run)
    tracker.metrics({"recall@10": 0.5, "nothing": None, "broken": float("nan")})
    tracker.flush()
    close_step_run("FINISHED")
    assert client.get_run(run.run_id).data.metrics == {"recall_at_10": 0.5}


def test_progress_reaches_the_file_and_a_silent_tracker_takes_everything(tmp_path):
    file = ProgressFile(tmp_path / "fuse.json")
    file.start()
    StepTracker(file).progress(3, 3, "training")
    assert read_progress(tmp_path / "fuse.json").items() >= {"done": 3, "total": 3, "note": "training"}.items()
    for tracker in (Tracker(), StepTracker()):
        tracker.metrics({"loss": 1.0}, 3)
        tracker.params({"a": 1})
        tracker.artifact(tmp_path)
        tracker.progress(1, 2)
