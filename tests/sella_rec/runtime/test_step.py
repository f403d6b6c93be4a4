import json
import logging
import os

import pytest

from sella_rec.config import BackboneConfig, Config, LaunchConfig
from sella_rec.runtime.checkpoint_store import CheckpointStore, CheckpointStoreError
from sella_rec.runtime.step import STEPS_FILE, running, stay_offline_if_local, whole_settings
from sella_rec.tracking.progress_file import read_progress

CONFIG = Config().to_json()


@pytest.fixture(autouse=True)
def _untracked(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "SELLA_LOCK", "SELLA_LOGS", "SELLA_PROGRESS", "SELLA_CHECKPOINTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KFP_RUN_ID", "run-1")


@pytest.fixture
def progress(tmp_path, monkeypatch):
    folder = tmp_path / "progress"
    folder.mkdir()
    monkeypatch.setenv("SELLA_PROGRESS", str(folder))
    return folder


def run(name, inputs, output, code_version="v1"):
    with running(
        name, whole_settings(CONFIG, code_version), {k: str(v) for k, v in inputs.items()}, str(output)
    ) as step:
        step.output.mkdir(parents=True)
        (step.output / "made").write_text(name)
    return output


def test_times_and_memory_travel_with_the_outputs(tmp_path):
    data = run("prepare-data", {}, tmp_path / "data")
    collab = run("train-collab", {"dataset": data}, tmp_path / "collab")
    adapter = run("tune-llm", {"dataset": data}, tmp_path / "adapter")
    with running("evaluate", whole_settings(CONFIG, "v1"), {"collab": str(collab), "adapter": str(adapter)}) as step:
        assert set(step.before) == {"prepare-data", "train-collab", "tune-llm"}
    entry = json.loads((adapter / STEPS_FILE).read_text())["tune-llm"]
    assert entry["seconds"] >= 0
    assert entry["peak_rss_mb"] > 10
    assert entry["run"] == "run-1"


def test_success_is_told_with_result_and_inputs(tmp_path, progress):
    data = run("prepare-data", {}, tmp_path / "data")
    with running("promote", whole_settings(CONFIG, "v1"), {"bundle": str(data)}) as step:
        step.tracker.progress(1, 2, "copying")
        assert read_progress(progress / "promote.json")["state"] == "running"
        step.result["model"] = {"name": "sella-rec", "version": "1"}
    said = read_progress(progress / "promote.json")
    assert said["state"] == "done"
    assert said["result"] == {"model": {"name": "sella-rec", "version": "1"}}
    assert said["inputs"] == {"bundle": str(data)}


def test_an_error_is_told_with_its_traceback_and_not_tried_again(tmp_path, progress):
    def fail():
        raise ValueError("no such film")

    with pytest.raises(ValueError, match="no such film"), running("fuse", whole_settings(CONFIG, "v1")):
        fail()
    said = read_progress(progress / "fuse.json")
    assert said["state"] == "failed"
    assert "in fail" in said["error"]
    with pytest.raises(SystemExit, match="not retried"):
        run("fuse", {}, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_killed_attempt_is_tried_again(tmp_path, progress):
    (progress / "fuse.json").write_text('{"state": "running", "started": 0}')
    run("fuse", {}, tmp_path / "bundle")
    assert read_progress(progress / "fuse.json")["state"] == "done"


def test_a_step_asked_to_end_early_has_not_failed_and_is_tried_again(tmp_path, progress):
    with pytest.raises(SystemExit), running("fuse", whole_settings(CONFIG, "v1")):
        raise SystemExit(143)
    assert read_progress(progress / "fuse.json")["state"] == "running"
    run("fuse", {}, tmp_path / "bundle")


def test_checkpoints_outlive_a_failure_and_go_with_success(tmp_path, monkeypatch):
    monkeypatch.setenv("SELLA_CHECKPOINTS", str(tmp_path / "checkpoints"))
    data = run("prepare-data", {}, tmp_path / "data")
    inputs = {"dataset": str(data)}

    def fail():
        with running("tune-llm", whole_settings(CONFIG, "v1"), inputs, str(tmp_path / "adapter")) as step:
            (step.checkpoints / "checkpoint-5").mkdir()
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    with running("tune-llm", whole_settings(CONFIG, "v2"), inputs, str(tmp_path / "adapter")) as step:
        assert not list(step.checkpoints.iterdir()), "other code must not go on from it"
        step.output.mkdir()
    with running("tune-llm", whole_settings(CONFIG, "v1"), inputs, str(tmp_path / "again")) as step:
        kept = step.checkpoints
        assert (kept / "checkpoint-5").is_dir()
        step.output.mkdir()
    assert not kept.exists()


def test_copies_of_checkpoints_go_with_success_too(tmp_path):
    config = Config.from_json(CONFIG).model_copy(
        update={"launch": LaunchConfig(checkpoint_uri=(tmp_path / "bucket").as_uri())}
    )
    with running("tune-llm", whole_settings(config.to_json(), "v1"), {}, str(tmp_path / "adapter")) as step:
        # the disk may be another machine's the next time, the name has to be the same
        copies = tmp_path / "bucket" / step.checkpoints.name
        (copies / "checkpoint-5").mkdir(parents=True)
        step.output.mkdir()
    assert step.checkpoints.name.startswith("tune-llm-")
    assert not copies.exists()


def test_a_store_that_fails_at_the_end_does_not_undo_the_work(tmp_path, monkeypatch, progress, caplog):
    def refuse(_store):
        raise CheckpointStoreError("gone")

    monkeypatch.setattr(CheckpointStore, "clear", refuse)
    config = Config.from_json(CONFIG).model_copy(update={"launch": LaunchConfig(checkpoint_uri="memory://bucket")})
    with running("tune-llm", whole_settings(config.to_json(), "v1"), {}, str(tmp_path / "adapter")) as step:
        logging.getLogger().addHandler(caplog.handler)
        assert step.checkpoints.is_dir()
        step.output.mkdir()
    assert "not removed: gone" in caplog.text
    assert read_progress(progress / "tune-llm.json")["state"] == "done"


def test_without_a_place_for_checkpoints_the_log_says_so(tmp_path, caplog):
    with running("tune-llm", whole_settings(CONFIG, "v1"), {}, str(tmp_path / "adapter")) as step:
        # running() sets up logging anew
        logging.getLogger().addHandler(caplog.handler)
        assert step.checkpoints.is_dir()
        step.output.mkdir()
    assert "neither SELLA_CHECKPOINTS nor launch.checkpoint_uri is set" in caplog.text


@pytest.mark.parametrize(("name", "offline"), [("embedded:smollm2-135m-instruct", True), ("Qwen/Qwen2-7B", False)])
def test_only_a_backbone_from_the_hub_may_ask_the_network(monkeypatch, name, offline):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    stay_offline_if_local(BackboneConfig(name=name))
    assert ("HF_HUB_OFFLINE" in os.environ) == offline


def test_a_backbone_on_disk_asks_no_network(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    stay_offline_if_local(BackboneConfig(name=str(tmp_path)))
    assert os.environ["HF_HUB_OFFLINE"] == "1"
