"""Compiled layers against the same layers as they are: scores and gradients."""

import copy
import shutil

import numpy as np
import pytest
import torch

from sella_rec.config import TuneConfig
from sella_rec.llm import scoring
from sella_rec.llm.adapter import add_adapter
from sella_rec.llm.backbone import BackboneError
from sella_rec.llm.packing import Packer, group_by_user
from sella_rec.llm.scorer import YesNoScorer, compile_layers
from sella_rec.llm.scoring import score_split


@pytest.fixture
def plain(lively_llm, prompts):
    torch.manual_seed(0)
    tuned = add_adapter(lively_llm, TuneConfig(lora_rank=4, lora_dropout=0))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return YesNoScorer(tuned, prompts.yes_id, prompts.no_id)


def gradients(scorer, batch):
    scorer.train()(**batch).square().sum().backward()
    return {name: p.grad for name, p in scorer.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_layers_give_the_same_scores_and_gradients(plain, prompts, random_split, monkeypatch):
    # otherwise layers are left as they are after so many compilations
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 3)
    split, packer = random_split(rows=8, seed=5), Packer(prompts)
    compiled = copy.deepcopy(plain)
    compile_layers(compiled.llm)
    expected = score_split(plain, packer, split, 256)
    assert expected.std() > 0.3
    np.testing.assert_allclose(score_split(compiled, packer, split, 256), expected, atol=1e-4, rtol=0)
    # with the history's keys and values in a cache
    monkeypatch.setattr(scoring, "_PACKED_TARGETS", 0)
    np.testing.assert_allclose(score_split(compiled, packer, split, 256), expected, atol=1e-4, rtol=0)

    batch = dict(packer.batch(split, packer.pack(split, group_by_user(split, 3))))
    del batch["index"], batch["labels"]
    found, by_hand = gradients(compiled, batch), gradients(plain, batch)
    assert found.keys() == by_hand.keys()
    assert len(found) == 2 * 2 * 7
    for name, gradient in by_hand.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))


def test_no_compiler_is_an_error_at_once(plain, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackboneError, match="no-such-compiler was not found: install one"):
        compile_layers(plain.llm)
