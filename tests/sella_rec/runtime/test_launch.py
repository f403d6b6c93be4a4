"""Training in two processes on the CPU: the losses and weights of one process with the same global batch."""

import json
import os
import signal
import textwrap
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from components.fuse.step import run as fuse
from components.tune_llm.step import run as tune_llm
from sella_rec.llm.training import last_complete_checkpoint
from sella_rec.runtime import restarts
from sella_rec.runtime.launch import launch
from sella_rec.runtime.preemption import PreemptedError
from sella_rec.runtime.step import Step, running, whole_settings
from sella_rec.runtime.work import TrainingDiedError
from sella_rec.tracking.progress_file import read_progress
from sella_rec.tracking.tracker import StepTracker

# several processes start anew and share the cores with whatever else is tested
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[3]
# what other processes can import: a step's work that meets with something
HELPER = textwrap.dedent("""
    import os, signal, time
    from torch.distributed.tensor import DTensor
    from sella_rec.tracking.tracker import Tracker
    from components.fuse import step as fusing
    from components.fuse.step import run as fuse

    class Evicted(Tracker):
        def progress(self, done, total, note=""):
            if note == "training" and done == 5 and os.environ["RANK"] == "0":
                os.kill(os.getppid(), signal.SIGTERM)
                # until the launching process has passed it on
                time.sleep(3)

        def flush(self):
            pass

    def evicted(step):
        step.tracker = Evicted()
        fuse(step)

    def sharded(step):
        load = fusing.load_adapter

        def watched(*args):
            llm, *more = load(*args)
            frozen = [p for name, p in llm.named_parameters() if ".layers." in name and "lora" not in name]
            assert frozen and all(isinstance(p, DTensor) and p.to_local().numel() * 2 == p.numel() for p in frozen)
            return llm, *more

        fusing.load_adapter = watched
        fuse(step)

    def failing(step):
        if os.environ["RANK"] == "1":
            raise LookupError("no such film")
        time.sleep(60)
""")


@pytest.fixture(autouse=True)
def _from_here(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in (
        "KFP_POD_NAME",
        "MLFLOW_TRACKING_URI",
        "SELLA_LOCK",
        "SELLA_LOGS",
        "SELLA_PROGRESS",
        "SELLA_CHECKPOINTS",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def helper(monkeypatch, tmp_path):
    (tmp_path / "helper.py").write_text(HELPER)
    monkeypatch.syspath_prepend(tmp_path)
    import helper

    return helper


def in_processes(config, stage, processes, **changes):
    """Two rows a step in all, whatever the number of processes; small and without dropout."""
    # the last step is no whole one, so that one process gets padding rows
    changes |= {"rows_per_step": 2 // processes, "max_labels": 101, "targets_per_history": 2, "valid_users": 10}
    section = getattr(config, stage).model_copy(update=changes)
    launching = config.launch.model_copy(update={"processes": processes})
    return config.model_copy(update={stage: section, "launch": launching})


def do(work, name, config, inputs, folder):
    step = Step(
        name,
        config,
        whole_settings(config.to_json()),
        inputs,
        {},
        StepTracker(),
        None,
        {},
        folder / "output",
        folder / "checkpoints",
    )
    launch(work, step)
    return step.output


def assert_same_training(found, expected, weights):
    found_curve, curve = (json.loads((o / "curves.json").read_text())["train_loss"] for o in (found, expected))
    assert found_curve["step"] == curve["step"]
    assert len(curve["step"]) > 1
    np.testing.assert_allclose(found_curve["value"], curve["value"], atol=1e-4)
    found_weights, expected_weights = (load_file(output / weights) for output in (found, expected))
    assert set(found_weights) == set(expected_weights)
    for name, tensor in expected_weights.items():
        torch.testing.assert_close(found_weights[name], tensor, atol=1e-4, rtol=0)


def test_tune_llm_in_two_processes_is_as_in_one_and_told_of_once(
    tiny_config, genre_data, tmp_path, monkeypatch, fresh_store
):
    configs = {n: in_processes(tiny_config, "tune", n, lora_dropout=0.0, title_epochs=0.2) for n in (1, 2)}
    alone = do(tune_llm, "tune-llm", configs[1], {"dataset": genre_data}, tmp_path / "alone")

    (tmp_path / "progress").mkdir()
    monkeypatch.setenv("SELLA_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.setenv("SELLA_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store())
    # what another test has set in this process would go before the environment
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    monkeypatch.chdir(tmp_path)
    inputs = {"dataset": str(genre_data)}
    with running("tune-llm", whole_settings(configs[2].to_json(), "v1"), inputs, str(tmp_path / "output")) as step:
        launch(tune_llm, step)
        said = read_progress(tmp_path / "progress" / "tune-llm.json")
        assert (said["state"], said["note"]) == ("running", "scoring valid")
    assert_same_training(tmp_path / "output", alone, "adapter/adapter_model.safetensors")

    curves = json.loads((tmp_path / "output" / "curves.json").read_text())
    assert set(curves) == {"titles_train_loss", "train_loss"}
    for name, curve in curves.items():
        history = step.run.client.get_metric_history(step.run.run_id, name)
        assert [(point.step, point.value) for point in history] == list(zip(*curve.values(), strict=True))
    assert len(step.run.client.get_metric_history(step.run.run_id, "valid_auc")) == 1


def test_fuse_in_two_processes_evicted_and_gone_on_with_shards_is_as_in_one(tiny_config, fuse_inputs, tmp_path, helper):
    configs = {n: in_processes(tiny_config, "fuse", n, gradient_accumulation=2) for n in (1, 2)}
    inputs = vars(fuse_inputs)
    alone = do(fuse, "fuse", configs[1], inputs, tmp_path / "alone")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(PreemptedError):
        do(helper.evicted, "fuse", configs[2], inputs, tmp_path / "two")
    assert signal.getsignal(signal.SIGTERM) == before
    assert not (tmp_path / "two" / "output").exists()
    checkpoint = last_complete_checkpoint(tmp_path / "two" / "checkpoints")
    assert checkpoint.name == "checkpoint-5"
    assert {path.name for path in checkpoint.glob("rng_state_*")} == {"rng_state_0.pth", "rng_state_1.pth"}

    shards = configs[2].model_copy(update={"launch": configs[2].launch.model_copy(update={"sharded": True})})
    found = do(helper.sharded, "fuse", shards, inputs, tmp_path / "two")
    assert_same_training(found, alone, "soft_tokens.safetensors")


def test_the_error_of_the_process_that_failed_is_told(tiny_config, tmp_path, helper, monkeypatch):
    config = in_processes(tiny_config, "fuse", 2)
    monkeypatch.setattr(restarts, "RESTARTS", 0)
    with pytest.raises(TrainingDiedError, match=r"process 1 failed: LookupError: no such film\n(.|\n)*in failing"):
        do(helper.failing, "fuse", config, {}, tmp_path)
