"""fuse over what every step before it really wrote: where stage 3 starts, what it trains, and its ablations."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from components.fuse.step import add_residual, build_soft_tokens, fuse
from sella_rec.collab.tables import CollabTables
from sella_rec.data.dataset import PreparedData
from sella_rec.data.row_selection import evaluation_rows
from sella_rec.llm.adapter import load_adapter
from sella_rec.llm.packing import Packer
from sella_rec.llm.scorer import YesNoScorer
from sella_rec.llm.scoring import score_split
from sella_rec.metrics.ranking import auc
from sella_rec.model.bundle import build_prompts, load_bundle
from sella_rec.model.late_fusion import VALID_LOGITS, LateFusionError, save_valid_logits
from sella_rec.tracking.tracker import Tracker

# Rows of valid are few: by so much may an AUC move without meaning.
NOISE = 0.03


def with_fuse(config, **changes):
    return config.model_copy(update={"fuse": config.fuse.model_copy(update=changes)})


@pytest.fixture(scope="module")
def data(genre_data):
    return PreparedData(genre_data)


@pytest.fixture(scope="module")
def valid(data, tiny_config):
    return evaluation_rows(data.valid, tiny_config.evaluate)


def score(config, llm, tokenizer, data, split, soft_tokens=None):
    prompts = build_prompts(tokenizer, config, data.items)
    scorer = YesNoScorer(llm, prompts.yes_id, prompts.no_id, soft_tokens)
    packer = Packer(prompts, soft_tokens is not None, config.fuse.warm_token)
    return score_split(scorer, packer, split, config.evaluate.tokens_per_batch)


def test_step_0_is_no_worse_than_text_only(tiny_config, fuse_inputs, data, valid):
    torch.manual_seed(0)
    llm, tokenizer, _ = load_adapter(fuse_inputs.adapter / "adapter", "cpu")
    text_only = score(tiny_config, llm, tokenizer, data, valid)
    step_0 = score(tiny_config, llm, tokenizer, data, valid, build_soft_tokens(tiny_config, fuse_inputs, llm))
    assert auc(valid.label, text_only) > 0.8
    assert auc(valid.label, step_0) > auc(valid.label, text_only) - NOISE


def test_the_residual_is_fitted_as_late_fusion(tiny_config, fuse_inputs, valid):
    from sklearn.linear_model import LogisticRegression

    llm = load_adapter(fuse_inputs.adapter / "adapter", "cpu")[0]
    soft_tokens = build_soft_tokens(tiny_config, fuse_inputs, llm)
    llm_logits = np.random.default_rng(0).normal(size=len(valid)).astype(np.float32)
    final = add_residual(soft_tokens, valid, llm_logits)
    collab = CollabTables.load(fuse_inputs.aligned / "tables").score_split(valid)
    oracle = LogisticRegression(C=1e6, max_iter=1000).fit(np.stack([llm_logits, collab], axis=1), valid.label)
    found = [w.item() for w in (soft_tokens.llm_weight, soft_tokens.collab_weight, soft_tokens.bias)]
    np.testing.assert_allclose(found, [*oracle.coef_[0], oracle.intercept_[0]], rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(final, found[0] * llm_logits + found[1] * collab + found[2], rtol=1e-4, atol=1e-5)


def test_valid_rows_of_one_class_are_an_error_before_training(tiny_config, fuse_inputs, valid, tmp_path):
    adapter = shutil.copytree(fuse_inputs.adapter, tmp_path / "tuned")
    liked = np.flatnonzero(valid.label == 1)
    save_valid_logits(adapter / VALID_LOGITS, liked, np.zeros(len(liked), dtype=np.float32))
    inputs, checkpoints = replace(fuse_inputs, adapter=adapter), tmp_path / "checkpoints"
    with pytest.raises(LateFusionError, match=r"sampled valid rows have one class only; raise tune\.valid_users"):
        fuse(tiny_config, inputs, tmp_path / "bundle", checkpoints, Tracker())
    assert not checkpoints.exists()
    # the paper's form has no use for them
    paper = with_fuse(tiny_config, residual=False, max_labels=40)
    fuse(paper, inputs, tmp_path / "bundle", checkpoints, Tracker())


def test_the_bundle_holds_what_was_measured(fused, valid):
    metrics = json.loads((fused / "metrics.json").read_text())
    assert set(metrics) == {"text_only", "step_0", "trained", "final"}
    bundle = load_bundle(fused, "cpu")
    for stage, arm in (("text_only", "text_only"), ("final", "sella")):
        assert metrics[stage]["auc"] == pytest.approx(auc(valid.label, bundle.score(valid, arm)), abs=1e-4)
    assert metrics["step_0"]["auc"] > metrics["text_only"]["auc"] - NOISE
    assert metrics["final"]["auc"] > metrics["text_only"]["auc"] - NOISE
    # the weights were fitted on these rows, and nothing was lost by it
    assert metrics["final"]["auc"] > metrics["trained"]["auc"] - 0.01
    curve = json.loads((fused / "curves.json").read_text())["train_loss"]
    assert len(curve["step"]) == len(curve["value"]) > 0


def test_training_moves_stage_3_and_nothing_else(fuse_inputs, fused):
    adapter = "adapter/adapter_model.safetensors"
    assert (fused / adapter).read_bytes() == (fuse_inputs.adapter / adapter).read_bytes()
    state = load_file(fused / "soft_tokens.safetensors")
    tables = CollabTables.load(fuse_inputs.aligned / "tables")
    projection = load_file(fuse_inputs.aligned / "projection.safetensors")
    for name, tensor in tables.state_dict().items():
        assert torch.equal(state[f"tables.{name}"], tensor)
    assert not torch.equal(state["item_vectors"], tables.item_vectors)
    for name, tensor in projection.items():
        assert not torch.equal(state[f"projection.{name}"], tensor)
        # the warm start: still near where alignment left it
        assert (state[f"projection.{name}"] - tensor).norm() < tensor.norm()
    assert not state["semantics"][0].any()


@pytest.mark.parametrize(
    "changes", [{"residual": False}, {"aligned": False}, {"warm_start": False}, {"warm_token": False}], ids=str
)
def test_ablations_run_and_load(tiny_config, fuse_inputs, valid, tmp_path, changes):
    config = with_fuse(tiny_config, max_labels=40, valid_users=10, **changes)
    fuse(config, fuse_inputs, tmp_path / "bundle", tmp_path / "checkpoints", Tracker())
    bundle = load_bundle(tmp_path / "bundle", "cpu")
    assert bundle.config == config
    scores = bundle.score(valid)
    assert np.isfinite(scores).all()
    assert auc(valid.label, scores) > 0.75
    state = bundle.soft_tokens.state_dict()
    if changes == {"residual": False}:
        assert (float(state["llm_weight"]), float(state["collab_weight"]), float(state["bias"])) == (1, 0, 0)
    if changes == {"aligned": False}:
        raw = CollabTables.load(fuse_inputs.collab / config.collab.fused_model / "tables")
        assert torch.equal(state["tables.item_vectors"], raw.item_vectors)
    if changes == {"warm_start": False}:
        start = load_file(fuse_inputs.aligned / "projection.safetensors")["2.weight"]
        assert abs(torch.corrcoef(torch.stack([start.flatten(), state["projection.2.weight"].flatten()]))[0, 1]) < 0.3
    if changes == {"warm_token": False}:
        bundle.soft_tokens.warm_projection.weight.zero_()
        np.testing.assert_array_equal(bundle.score(valid), scores)


class CutOffError(Exception):
    pass


class Watch(Tracker):
    """Keeps the training steps it is told of; ends the training after the given one."""

    def __init__(self, stop_after=None):
        self.steps, self._stop_after = [], stop_after

    def progress(self, done, _, note=""):
        if note == "training":
            self.steps.append(done)
            if done == self._stop_after:
                raise CutOffError


def test_cut_off_and_started_again_it_ends_the_same(tiny_config, fuse_inputs, fused, tmp_path):
    every = 2
    config = with_fuse(tiny_config, save_every=every)
    with pytest.raises(CutOffError):
        fuse(config, fuse_inputs, tmp_path / "bundle", tmp_path / "checkpoints", Watch(every + 1))
    assert not (tmp_path / "bundle").exists()
    watch = Watch()
    fuse(config, fuse_inputs, tmp_path / "bundle", tmp_path / "checkpoints", watch)
    assert watch.steps[0] == every + 1
    found, expected = (load_file(folder / "soft_tokens.safetensors") for folder in (tmp_path / "bundle", fused))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=0)


def test_lightgcn_can_feed(tiny_config, fuse_inputs, tmp_path):
    config = with_fuse(tiny_config, aligned=False, warm_start=False, max_labels=20, valid_users=5)
    config = config.model_copy(update={"collab": config.collab.model_copy(update={"fused_model": "lightgcn"})})
    inputs = replace(fuse_inputs, aligned=tmp_path / "not-read")
    fuse(config, inputs, tmp_path / "bundle", tmp_path / "checkpoints", Tracker())
    raw = CollabTables.load(fuse_inputs.collab / "lightgcn" / "tables")
    assert torch.equal(load_bundle(tmp_path / "bundle", "cpu").soft_tokens.tables.item_vectors, raw.item_vectors)
