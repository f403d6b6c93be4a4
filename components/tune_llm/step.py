"""Stage 1: tune the LLM with LoRA to answer `Yes` or `No` from titles, without collaborative vectors."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from transformers import set_seed

from components.core.adapter import add_adapter, save_adapter
from components.core.backbone import load_backbone
from components.core.checkpoint_store import store_of
from components.core.config import Config, TuneConfig
from components.core.dataset import PreparedData
from components.core.late_fusion import VALID_LOGITS, save_valid_logits
from components.core.llm_training import Curves, train
from components.core.metrics import evaluate_slice
from components.core.packing import Packer
from components.core.paths import atomic_output
from components.core.prompt import PromptBuilder
from components.core.rows import evaluation_rows, sample_users, shrink_labels, titles_alone
from components.core.scorer import YesNoScorer, compile_layers
from components.core.scoring import score_split
from components.core.step import Step
from components.core.tracking import Tracker

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
        checkpoints: folder that outlives a killed attempt; training goes on from it, or from its copy in
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
        asked = titles_alone(data.train, config.tune.title_epochs, config.seed)
        store = store_of(config.launch, checkpoints, _TITLES)
        settings = _for_titles(config.tune)
        curves |= train(scorer, packer, asked, settings, checkpoints / _TITLES, tracker, config.seed, store, _TITLES)
    store = store_of(config.launch, checkpoints)
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
