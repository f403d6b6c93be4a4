"""Training on a planted task, its checkpoints, and continuing from them."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sella_rec.config import FuseConfig, TuneConfig
from sella_rec.llm.adapter import add_adapter
from sella_rec.llm.backbone import load_backbone
from sella_rec.llm.packing import Packer
from sella_rec.llm.scorer import YesNoScorer
from sella_rec.llm.training import CheckpointError, last_complete_checkpoint, train, trainable_state
from sella_rec.runtime.checkpoint_store import CheckpointStore
from sella_rec.runtime.preemption import PreemptedError
from sella_rec.tracking.tracker import Tracker

TUNE = TuneConfig(
    learning_rate=5e-3, lora_rank=8, lora_dropout=0.1, targets_per_history=3, rows_per_step=4, save_every=4
)


class CutOffError(Exception):
    pass


class Watch(Tracker):
    """Keeps the optimizer steps it is told of; ends the training after the given one."""

    def __init__(self, stop_after: int | None = None):
        self.steps: list[int] = []
        self.losses: list[float] = []
        self._stop_after = stop_after

    def progress(self, done, *_):
        self.steps.append(int(done))
        if done == self._stop_after:
            raise CutOffError

    def metrics(self, values, *_):
        self.losses.append(values["train_loss"])


@pytest.fixture
def planted(random_split):
    """Liked are the items whose titles begin with certain words, whatever the user."""
    split = random_split(users=16, rows=24, seed=0)
    split.label[:] = split.item % 7 < 3
    return split


@pytest.fixture
def make_scorer(tiny_backbone_config, prompts):
    def make(config=TUNE, seed=0):
        torch.manual_seed(seed)
        return YesNoScorer(add_adapter(load_backbone(tiny_backbone_config)[0], config), prompts.yes_id, prompts.no_id)

    return make


def copied(state):
    return {name: tensor.clone() for name, tensor in state.items()}


def assert_same_state(found, expected, within=0.0):
    assert set(found) == set(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=within, rtol=0)


def test_loss_goes_down_on_a_planted_task(make_scorer, prompts, planted, tmp_path, capsys):
    config = TUNE.model_copy(update={"targets_per_history": 2, "learning_rate": 1e-2})
    watch, scorer = Watch(), make_scorer(config)
    before = copied(trainable_state(scorer))
    frozen = {name: p.clone() for name, p in scorer.named_parameters() if not p.requires_grad}
    curve = train(scorer, Packer(prompts), planted, config, tmp_path, watch, seed=0)["train_loss"]
    assert np.mean(curve["value"][-2:]) < np.mean(curve["value"][:2]) - 0.1
    assert abs(curve["value"][0] - np.log(2)) < 0.1
    assert curve["step"] == [*range(5, watch.steps[-1] + 1, 5)]
    assert watch.losses == curve["value"]
    assert watch.steps == list(range(1, watch.steps[-1] + 1))
    assert all(not torch.equal(p, before[name]) for name, p in trainable_state(scorer).items())
    assert all(torch.equal(p, frozen[name]) for name, p in scorer.named_parameters() if name in frozen)
    assert "loss" not in capsys.readouterr().out


def test_checkpoints_hold_trainable_weights_alone_in_safetensors(make_scorer, prompts, planted, tmp_path):
    scorer = make_scorer()
    train(scorer, Packer(prompts), planted, TUNE, tmp_path, Tracker(), seed=0)
    kept = sorted(tmp_path.glob("checkpoint-*"))
    assert 1 <= len(kept) <= 2
    last = last_complete_checkpoint(tmp_path)
    assert_same_state(load_file(last / "trainable.safetensors"), trainable_state(scorer))
    assert all("lora" in name for name in load_file(last / "trainable.safetensors"))
    files = {path.name for path in last.iterdir()}
    assert not [name for name in files if name.startswith(("model", "pytorch_model", "adapter"))]


@pytest.mark.slow
def test_a_training_cut_off_goes_on_and_ends_the_same(make_scorer, prompts, planted, tmp_path):
    packer, undisturbed, watch = Packer(prompts), make_scorer(), Watch()
    curves = train(undisturbed, packer, planted, TUNE, tmp_path / "undisturbed", watch, seed=0)
    assert watch.steps[-1] > 10

    with pytest.raises(CutOffError):
        train(make_scorer(), packer, planted, TUNE, tmp_path / "cut", Watch(stop_after=10), seed=0)
    # what a kill amid writing leaves: weights but no state, then a state cut short
    amid = tmp_path / "cut" / "checkpoint-9"
    shutil.copytree(tmp_path / "cut" / "checkpoint-8", amid)
    (amid / "trainer_state.json").unlink()
    half = tmp_path / "cut" / "checkpoint-10"
    shutil.copytree(tmp_path / "cut" / "checkpoint-8", half)
    state = (half / "trainer_state.json").read_text()
    (half / "trainer_state.json").write_text(state[: len(state) // 2])
    assert last_complete_checkpoint(tmp_path / "cut").name == "checkpoint-8"

    # the seed of fresh weights must not matter to a training that continues
    resumed, watch = make_scorer(seed=1), Watch()
    resumed_curves = train(resumed, packer, planted, TUNE, tmp_path / "cut", watch, seed=0)
    assert watch.steps[0] == 9
    assert_same_state(trainable_state(resumed), trainable_state(undisturbed), within=1e-6)
    assert resumed_curves["train_loss"]["step"] == curves["train_loss"]["step"]
    assert resumed_curves["train_loss"]["value"][0] == curves["train_loss"]["value"][0]

    again, watch = make_scorer(seed=2), Watch()
    train(again, packer, planted, TUNE, tmp_path / "cut", watch, seed=0)
    assert watch.steps == []
    assert_same_state(trainable_state(again), trainable_state(resumed))


@pytest.mark.slow
def test_a_training_whose_disk_is_lost_goes_on_from_the_store(make_scorer, prompts, planted, tmp_path):
    packer, undisturbed, store = Packer(prompts), make_scorer(), CheckpointStore((tmp_path / "bucket").as_uri())
    train(undisturbed, packer, planted, TUNE, tmp_path / "undisturbed", Tracker(), seed=0)
    with pytest.raises(CutOffError):
        train(make_scorer(), packer, planted, TUNE, tmp_path / "lost", Watch(stop_after=10), 0, store)
    resumed, watch = make_scorer(seed=1), Watch()
    train(resumed, packer, planted, TUNE, tmp_path / "new", watch, 0, store)
    assert watch.steps[0] == 9
    assert_same_state(trainable_state(resumed), trainable_state(undisturbed), within=1e-6)


@pytest.mark.slow
def test_sigterm_keeps_the_step_that_it_met(make_scorer, prompts, planted, tmp_path):
    class Evicted(Tracker):
        def progress(self, done, *_):
            if done == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    few, before = planted.take(planted.user < 7), signal.getsignal(signal.SIGTERM)
    undisturbed = make_scorer()
    train(undisturbed, Packer(prompts), few, TUNE, tmp_path / "undisturbed", Tracker(), seed=0)
    with pytest.raises(PreemptedError) as ended:
        train(make_scorer(), Packer(prompts), few, TUNE, tmp_path / "cut", Evicted(), seed=0)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    assert last_complete_checkpoint(tmp_path / "cut").name == "checkpoint-2"
    resumed = make_scorer(seed=1)
    train(resumed, Packer(prompts), few, TUNE, tmp_path / "cut", Tracker(), seed=0)
    assert_same_state(trainable_state(resumed), trainable_state(undisturbed))


def test_a_checkpoint_counts_only_once_it_is_whole(make_scorer, prompts, planted, tmp_path, monkeypatch):
    from transformers import TrainerState

    def full(*_):
        raise OSError("no space left on device")

    few, state = planted.take(planted.user < 7), TrainerState.save_to_json
    # the state is the last of a checkpoint's files
    monkeypatch.setattr(TrainerState, "save_to_json", full)
    with pytest.raises(OSError, match="no space left"):
        train(make_scorer(), Packer(prompts), few, TUNE, tmp_path, Tracker(), seed=0)
    assert list(tmp_path.rglob("trainable.safetensors"))
    assert not list(tmp_path.glob("checkpoint-*"))
    monkeypatch.setattr(TrainerState, "save_to_json", state)
    train(make_scorer(), Packer(prompts), few, TUNE, tmp_path, Tracker(), seed=0)
    assert list(tmp_path.glob("checkpoint-*"))
    assert not list((tmp_path / ".unfinished").iterdir())


@pytest.mark.slow
def test_stage_3_goes_on_as_well(lively_llm, prompts, planted, soft_tokens, tmp_path):
    import copy

    config = FuseConfig(targets_per_history=3, save_every=4, learning_rate=1e-2)
    packer, soft = Packer(prompts, soft_tokens=True), [copy.deepcopy(soft_tokens) for _ in range(3)]
    scorers = [YesNoScorer(lively_llm, prompts.yes_id, prompts.no_id, s) for s in soft]
    train(scorers[0], packer, planted.take(planted.user < 7), config, tmp_path / "undisturbed", Tracker(), seed=0)
    with pytest.raises(CutOffError):
        train(scorers[1], packer, planted.take(planted.user < 7), config, tmp_path / "cut", Watch(5), seed=0)
    train(scorers[2], packer, planted.take(planted.user < 7), config, tmp_path / "cut", Tracker(), seed=0)
    assert_same_state(trainable_state(soft[2]), trainable_state(soft[0]), within=1e-6)
    assert not torch.equal(soft[0].user_vectors, soft_tokens.user_vectors)
    # the residual's own table stays as it was
    assert torch.equal(soft[0].tables.user_vectors, soft_tokens.tables.user_vectors)


def test_no_checkpoint_in_an_empty_or_missing_folder(tmp_path):
    assert last_complete_checkpoint(tmp_path) is None
    assert last_complete_checkpoint(tmp_path / "missing") is None


@pytest.mark.parametrize("other", [{"lora_rank": 4}, {"lora_targets": ("q_proj",)}, {"lora_layers": 1}])
def test_a_checkpoint_of_another_configuration_is_refused(make_scorer, prompts, planted, tmp_path, other):
    few = planted.take(planted.user < 3)
    train(make_scorer(), Packer(prompts), few, TUNE, tmp_path, Tracker(), seed=0)
    config = TUNE.model_copy(update=other)
    with pytest.raises(CheckpointError, match=r"checkpoint-\d+ was written with another configuration"):
        train(make_scorer(config), Packer(prompts), few, config, tmp_path, Tracker(), seed=0)


def test_accumulated_steps_equal_one_large_step(make_scorer, prompts, planted, tmp_path):
    # four packed rows of unequal label counts: a mean of means would weigh labels unequally
    rows = np.concatenate([np.flatnonzero(planted.user == user)[:n] for user, n in ((1, 1), (2, 3), (3, 2), (4, 3))])
    states = []
    for size, steps in ((4, 1), (2, 2)):
        config = TUNE.model_copy(
            update={
                "rows_per_step": size,
                "gradient_accumulation": steps,
                "lora_dropout": 0.0,
                "warmup_ratio": 0.0,
                # far below Adam's epsilon the update is the gradient itself, not its sign
                "max_grad_norm": 1e-9,
                "weight_decay": 0.0,
            }
        )
        scorer = make_scorer(config)
        before = copied(trainable_state(scorer))
        train(scorer, Packer(prompts), planted.take(rows), config, tmp_path / str(size), Tracker(), seed=0)
        states.append({name: p - before[name] for name, p in trainable_state(scorer).items()})
        state = last_complete_checkpoint(tmp_path / str(size)) / "trainer_state.json"
        assert json.loads(state.read_text())["max_steps"] == 1
    largest = max(float(change.abs().max()) for change in states[0].values())
    assert largest > 0
    assert_same_state(states[1], states[0], within=1e-3 * largest)


def test_bfloat16_backbone_trains_float32_weights(tiny_backbone_config, prompts, planted, tmp_path):
    half = tiny_backbone_config.model_copy(update={"dtype": "bfloat16"})
    config = TUNE.model_copy(update={"warmup_ratio": 0.0})
    torch.manual_seed(0)
    scorer = YesNoScorer(add_adapter(load_backbone(half)[0], TUNE), prompts.yes_id, prompts.no_id)
    before = copied(trainable_state(scorer))
    train(scorer, Packer(prompts), planted.take(planted.user < 7), config, tmp_path, Tracker(), seed=0)
    after = trainable_state(scorer)
    assert all(after[name].dtype == torch.float32 and not torch.equal(after[name], before[name]) for name in after)
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
