"""Stage 1: tune the LLM with LoRA to answer `Yes` or `No` from titles, without collaborative vectors."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from transformers import set_seed

from sella_rec.config import Config, TuneConfig
from sella_rec.data.dataset import PreparedData
from sella_rec.data.row_selection import evaluation_rows, sample_users, shrink_labels, title_only_rows
from sella_rec.files import atomic_output
from sella_rec.llm.adapter import add_adapter, save_adapter
from sella_rec.llm.backbone import load_backbone
from sella_rec.llm.packing import Packer
from sella_rec.llm.prompt import PromptBuilder
from sella_rec.llm.scorer import YesNoScorer, compile_layers
from sella_rec.llm.scoring import score_split
from sella_rec.llm.training import Curves, train
from sella_rec.metrics.ranking import evaluate_slice
from sella_rec.model.late_fusion import VALID_LOGITS, save_valid_logits
from sella_rec.runtime.checkpoint_store import open_checkpoint_store
from sella_rec.runtime.step import Step
from sella_rec.tracking.tracker import Tracker

_TITLES = "titles"
# Titles behind a prompt without a history, which is short: more would save little.
_TITLES_A_ROW = 8


def run(step: Step) -> None:
    """tune-llm in this process, which may be one of several."""
    tune_llm(step.config, step.inputs["dataset"], step.output, step.checkpoints, step.tracker)


def tune_llm(config: Config, dataset: Path, output: Path, checkpoints: Path, tracker: Tracker) -> None:
    """Train a LoRA adapter on packed text-only prompts and write it with its valid metrics and loss curve.

    Args:
        config: sections backbone, prompt, tune, evaluate.
        dataset: prepare-data's folder.
        output: `adapter/` (peft, with `backbone.json`), `valid_logits.parquet` (for late fusion), `metrics.json`,
            `curves.json`.
        checkpoints: folder that outlives a killed attempt; training continues from it, or from its copy at
            `launch.checkpoint_uri`.
        tracker: receives loss, valid metrics, progress.
    """
    set_seed(config.seed)
    data = PreparedData(dataset)
    backbone, tokenizer = load_backbone(config.backbone, config.launch.sharded)
    prompts = PromptBuilder(tokenizer, config.prompt, data.titles)
    llm = add_adapter(backbone, config.tune)
    if config.tune.gradient_checkpointing:
        llm.gradient_checkpointing_enable({"use_reentrant": False})
    if config.tune.compile:
        compile_layers(llm)
    scorer, packer = YesNoScorer(llm, prompts.yes_id, prompts.no_id), Packer(prompts)
    curves: Curves = {}
    if config.tune.title_epochs:
        asked = title_only_rows(data.train, config.tune.title_epochs, config.seed)
        store = open_checkpoint_store(config.launch, checkpoints, _TITLES)
        settings = _for_titles(config.tune)
        curves |= train(scorer, packer, asked, settings, checkpoints / _TITLES, tracker, config.seed, store, _TITLES)
    store = open_checkpoint_store(config.launch, checkpoints)
    labels = shrink_labels(data.train, config.tune.label_shrinkage)
    curves |= train(scorer, packer, labels, config.tune, checkpoints, tracker, config.seed, store)

    valid = evaluation_rows(data.valid, config.evaluate)
    rows = sample_users(valid, config.tune.valid_users, config.seed)
    valid = valid.take(rows)
    show = partial(tracker.progress, note="scoring valid")
    logits = score_split(scorer, packer, valid, config.evaluate.tokens_per_batch, show)
    metrics = evaluate_slice(valid.user, valid.label, logits)
    tracker.metrics({f"valid_{name}": metrics[name] for name in ("auc", "uauc")})

    with atomic_output(output) as folder:
        save_adapter(llm, config.backbone, folder / "adapter")
        save_valid_logits(folder / VALID_LOGITS, rows, logits)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2))
        (folder / "curves.json").write_text(json.dumps(curves))


def _for_titles(config: TuneConfig) -> TuneConfig:
    changes = {
        "learning_rate": config.title_learning_rate,
        "targets_per_history": _TITLES_A_ROW,
        "max_labels": config.max_title_labels,
    }
    return config.model_copy(update=changes)
