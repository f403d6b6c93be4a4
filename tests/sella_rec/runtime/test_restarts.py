"""A training that dies in a pod is started again: one process, really killed, on the CPU."""

import json
import os
import textwrap
from pathlib import Path

import mlflow
import pytest
import torch
from safetensors.torch import load_file

from sella_rec.config import Config
from sella_rec.runtime.launch import launch
from sella_rec.runtime.preemption import PreemptedError
from sella_rec.runtime.restarts import RESTARTS, with_restarts
from sella_rec.runtime.step import Step, running, whole_settings
from sella_rec.runtime.work import TrainingDiedError, TrainingUserError
from sella_rec.tracking.tracker import StepTracker

pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).parents[3]
# what other processes can import: work that ends in every way, and notes that it was begun
WAYS = textwrap.dedent("""
    import os, signal
    from sella_rec.errors import UserError

    class NoSuchColumn(UserError):
        pass

    def begin(step):
        step.checkpoints.mkdir(exist_ok=True)
        with (step.checkpoints / "begun").open("a") as file:
            file.write("x")

    def killed(step):
        begin(step)
        os.kill(os.getpid(), signal.SIGKILL)

    def refused(step):
        begin(step)
        raise NoSuchColumn("data.columns.title: no such column")

    def crashed(step):
        begin(step)
        raise MemoryError("CUDA out of memory")
""")
KILLED_ONCE = textwrap.dedent("""
    import os, signal
    from components.tune_llm.step import run as tune_llm

    def killed_once(step):
        report, mark = step.tracker.progress, step.checkpoints / "killed"

        def progress(done, total, note=""):
            report(done, total, note)
            if note == "training" and done == 8 and not mark.exists():
                mark.touch()
                step.tracker.flush()
                os.kill(os.getpid(), signal.SIGKILL)

        step.tracker.progress = progress
        tune_llm(step)
""")


@pytest.fixture(autouse=True)
def _in_a_pod(monkeypatch, tmp_path):
    (tmp_path / "ways.py").write_text(WAYS)
    (tmp_path / "killed_once.py").write_text(KILLED_ONCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("MLFLOW_TRACKING_URI", "SELLA_LOCK", "SELLA_LOGS", "SELLA_PROGRESS", "SELLA_CHECKPOINTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KFP_POD_NAME", "run-1-tune-llm")


def step_in(folder, config=None, inputs=None):
    tracker = StepTracker()
    places = {"_output": folder / "output", "_checkpoints": folder / "checkpoints"}
    config = config or on_cpu(Config())
    settings = whole_settings(config.to_json())
    return Step("tune-llm", config, settings, inputs or {}, {}, tracker, None, **places)


def on_cpu(config):
    backbone = config.backbone.model_copy(update={"device": "cpu"})
    return config.model_copy(update={"backbone": backbone})


def begun(step):
    return len((step.checkpoints / "begun").read_text())


@pytest.mark.slow
def test_three_deaths_end_in_an_error_that_counts_them(tmp_path):
    import ways

    step = step_in(tmp_path)
    with pytest.raises(TrainingDiedError, match=r"tune-llm died 3 times, .*: process 0 failed: .*SIGKILL"):
        launch(ways.killed, step)
    assert begun(step) == 3


@pytest.mark.slow
def test_a_users_error_is_raised_in_its_own_words_and_not_tried_again(tmp_path):
    import ways

    step = step_in(tmp_path)
    with pytest.raises(TrainingUserError) as refused:
        launch(ways.refused, step)
    assert str(refused.value) == "data.columns.title: no such column"
    assert begun(step) == 1


def test_on_a_laptop_the_work_is_done_in_this_process(tmp_path, monkeypatch):
    monkeypatch.delenv("KFP_POD_NAME")
    done = []
    launch(lambda _: done.append(os.getpid()), step_in(tmp_path))
    assert done == [os.getpid()]


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (TrainingDiedError("killed"), 1 + RESTARTS),
        (TrainingUserError("data.items: no such file"), 1),
        (PreemptedError(), 1),
        (RuntimeError("the API was away too long"), 1),
    ],
)
def test_only_a_death_is_followed_by_a_restart(tmp_path, error, times):
    tried = []

    def train():
        tried.append(1)
        raise error

    with pytest.raises(type(error)):
        with_restarts(train, step_in(tmp_path))
    assert len(tried) == times == (3 if isinstance(error, TrainingDiedError) else 1)


@pytest.mark.slow
def test_a_training_that_was_killed_once_ends_as_an_undisturbed_one(
    tiny_config, genre_data, tmp_path, monkeypatch, fresh_store
):
    import killed_once

    from components.tune_llm.step import run as tune_llm

    changes = {"save_every": 5, "max_labels": 120, "rows_per_step": 2, "valid_users": 5, "lora_dropout": 0.1}
    config = tiny_config.model_copy(update={"tune": tiny_config.tune.model_copy(update=changes)})
    alone = step_in(tmp_path / "alone", config, {"dataset": genre_data})
    monkeypatch.delenv("KFP_POD_NAME")
    launch(tune_llm, alone)

    monkeypatch.setenv("KFP_POD_NAME", "run-1-tune-llm")
    monkeypatch.setenv("SELLA_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store())
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    monkeypatch.chdir(tmp_path)
    inputs = {"dataset": str(genre_data)}
    with running("tune-llm", whole_settings(config.to_json()), inputs, str(tmp_path / "output")) as step:
        launch(killed_once.killed_once, step)
        assert (step.checkpoints / "killed").exists()
    found, expected = (
        load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (tmp_path / "output", alone.output)
    )
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0)
    curve = json.loads((alone.output / "curves.json").read_text())["train_loss"]
    assert curve["step"][-1] > 8
    history = step.run.client.get_metric_history(step.run.run_id, "train_loss")
    assert [point.step for point in history] == curve["step"], "no point twice, none lost"
    assert step.run.client.get_run(step.run.run_id).info.status == "FINISHED"
