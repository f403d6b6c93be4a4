"""tune-llm over a tiny LLM: what it writes, that it learns, and that a kill does not change the result."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from components.tune_llm.step import tune_llm
from sella_rec.data.dataset import PreparedData
from sella_rec.data.row_selection import evaluation_rows
from sella_rec.llm.adapter import load_adapter
from sella_rec.llm.backbone import load_backbone
from sella_rec.llm.packing import Packer
from sella_rec.llm.prompt import PromptBuilder
from sella_rec.llm.scorer import YesNoScorer
from sella_rec.llm.scoring import score_split
from sella_rec.metrics.ranking import auc
from sella_rec.tracking.tracker import Tracker

ROOT = Path(__file__).parents[3]
KILLED_AFTER = 27
KILLED = f"""
import os, sys
from pathlib import Path
from sella_rec.config import Config
from sella_rec.tracking.tracker import Tracker
from components.tune_llm.step import tune_llm

class Killed(Tracker):
    def progress(self, done, total, note=""):
        if done == {KILLED_AFTER}:
            os.kill(os.getpid(), int(number))

number, config, *folders = sys.argv[1:]
tune_llm(Config.from_json(config), *map(Path, folders), Killed())
"""


class CutOffError(Exception):
    pass


class Steps(Tracker):
    """Keeps the optimizer steps of the training proper; ends the step after the given one of either training."""

    def __init__(self, until=None):
        self.steps, self._until = [], until

    def progress(self, done, _, note=""):
        if note == "training":
            self.steps.append(done)
        if (note, done) == self._until:
            raise CutOffError


@pytest.fixture(scope="session")
def titles_config(tiny_config):
    """Two epochs of titles alone, and hardly any label besides."""
    changes = {"title_epochs": 2.0, "title_learning_rate": 3e-3, "label_shrinkage": 0.5, "max_labels": 40}
    return tiny_config.model_copy(update={"tune": tiny_config.tune.model_copy(update=changes)})


@pytest.fixture(scope="session")
def tuned_on_titles(titles_config, genre_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned-on-titles")
    tune_llm(titles_config, genre_data, folder / "output", folder / "checkpoints", Tracker())
    return folder / "output"


def valid_scores(llm, tokenizer, config, data, split=None):
    prompts = PromptBuilder(tokenizer, config.prompt, data.titles)
    split = evaluation_rows(data.valid, config.evaluate) if split is None else split
    scorer = YesNoScorer(llm, prompts.yes_id, prompts.no_id)
    return split, score_split(scorer, Packer(prompts), split, config.evaluate.tokens_per_batch)


def test_planted_taste_is_learnt_and_the_adapter_reloads_to_the_same_scores(tiny_config, genre_data, tuned):
    data = PreparedData(genre_data)
    llm, tokenizer, _ = load_adapter(tuned / "adapter", "cpu")
    split, after = valid_scores(llm, tokenizer, tiny_config, data)
    _, before = valid_scores(*load_backbone(tiny_config.backbone), tiny_config, data)
    assert auc(split.label, before) < 0.65
    assert auc(split.label, after) > 0.8

    metrics = json.loads((tuned / "metrics.json").read_text())
    assert metrics["auc"] == pytest.approx(auc(split.label, after), abs=1e-6)
    saved = pl.read_parquet(tuned / "valid_logits.parquet")
    assert len(saved) == len(split)
    np.testing.assert_allclose(saved["logit"], after[saved["row"].to_numpy()], atol=1e-5)


def test_curves_and_backbone_are_written(tuned, tiny_config):
    curve = json.loads((tuned / "curves.json").read_text())["train_loss"]
    assert len(curve["step"]) == len(curve["value"]) > 5
    assert np.mean(curve["value"][-3:]) < np.mean(curve["value"][:3]) - 0.1
    backbone = json.loads((tuned / "adapter" / "backbone.json").read_text())
    assert backbone["name"] == tiny_config.backbone.name
    assert backbone["dtype"] == "float32"


def test_auto_dtype_is_resolved_and_layers_limited(tiny_config, genre_data, tmp_path):
    tune = tiny_config.tune.model_copy(update={"lora_layers": 1, "max_labels": 40, "valid_users": 5})
    backbone = tiny_config.backbone.model_copy(update={"dtype": "auto"})
    config = tiny_config.model_copy(update={"tune": tune, "backbone": backbone})
    tune_llm(config, genre_data, tmp_path / "output", tmp_path / "checkpoints", Tracker())
    adapter = tmp_path / "output" / "adapter"
    assert json.loads((adapter / "backbone.json").read_text())["dtype"] in ("float32", "bfloat16")
    names = load_file(adapter / "adapter_model.safetensors")
    assert names
    assert all(".layers.1." in name for name in names)
    assert len(pl.read_parquet(tmp_path / "output" / "valid_logits.parquet")) < 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "kept"),
    [(signal.SIGKILL, -signal.SIGKILL, (10, 20)), (signal.SIGTERM, 128 + signal.SIGTERM, (20, KILLED_AFTER))],
)
def test_killed_and_started_again_it_ends_with_the_same_weights_and_scores(
    tiny_config, genre_data, tuned, tmp_path, number, code, kept
):
    output, checkpoints = tmp_path / "output", tmp_path / "checkpoints"
    arguments = [str(int(number)), tiny_config.to_json(), *map(str, (genre_data, output, checkpoints))]
    command = [sys.executable, "-c", KILLED, *arguments]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert killed.returncode == code, killed.stderr
    assert not output.exists()
    assert tiny_config.tune.save_every == 10
    assert sorted(path.name for path in checkpoints.glob("checkpoint-*")) == [f"checkpoint-{step}" for step in kept]

    tracker = Steps()
    tune_llm(tiny_config, genre_data, output, checkpoints, tracker)
    assert tracker.steps[0] == kept[-1] + 1
    found, expected = (load_file(o / "adapter" / "adapter_model.safetensors") for o in (output, tuned))
    assert set(found) == set(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=0)
    found, expected = (pl.read_parquet(o / "valid_logits.parquet") for o in (output, tuned))
    np.testing.assert_allclose(found["logit"], expected["logit"], atol=1e-6)
    assert (output / "curves.json").is_file()


def test_titles_alone_teach_what_few_labels_cannot(titles_config, genre_data, tuned_on_titles, tmp_path):
    few = titles_config.model_copy(update={"tune": titles_config.tune.model_copy(update={"title_epochs": 0.0})})
    tune_llm(few, genre_data, tmp_path / "few", tmp_path / "checkpoints", Tracker())
    auc_of = {out: json.loads((out / "metrics.json").read_text())["auc"] for out in (tuned_on_titles, tmp_path / "few")}
    assert auc_of[tuned_on_titles] > 0.8
    assert auc_of[tmp_path / "few"] < 0.65
    curves = json.loads((tuned_on_titles / "curves.json").read_text())
    assert np.mean(curves["titles_train_loss"]["value"][-3:]) < curves["titles_train_loss"]["value"][0] - 0.1
    assert set(json.loads((tmp_path / "few" / "curves.json").read_text())) == {"train_loss"}


def test_titles_are_bounded_apart_from_the_other_labels(titles_config, genre_data, tmp_path):
    changes = {"max_title_labels": 100, "max_labels": 40, "rows_per_step": 2}
    config = titles_config.model_copy(update={"tune": titles_config.tune.model_copy(update=changes)})
    totals = {}

    class Totals(Tracker):
        def progress(self, done, total, note=""):
            totals[note] = total

    tune_llm(config, genre_data, tmp_path / "output", tmp_path / "checkpoints", Totals())
    # 100 labels are 13 rows of eight titles, 40 labels ten rows of four targets and now and then a shorter one
    assert totals["training on titles"] == 7
    assert 5 <= totals["training"] <= 8


@pytest.mark.slow
@pytest.mark.parametrize("until", [("training on titles", 17), ("training", 2)])
def test_cut_off_in_either_training_it_ends_with_the_same_weights(
    titles_config, genre_data, tuned_on_titles, tmp_path, until
):
    folders = genre_data, tmp_path / "output", tmp_path / "checkpoints"
    with pytest.raises(CutOffError):
        tune_llm(titles_config, *folders, Steps(until))
    assert list((tmp_path / "checkpoints" / "titles").glob("checkpoint-*"))
    tune_llm(titles_config, *folders, Tracker())
    found, expected = (load_file(o / "adapter" / "adapter_model.safetensors") for o in (folders[1], tuned_on_titles))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=0)
