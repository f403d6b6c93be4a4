"""What each kind of arm says about the test rows: `test.parquet` (logit, in the rows' order) and `valid.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.torch import load_file
from scipy.special import logit

from sella_rec.collab.tables import CollabTables
from sella_rec.config import Config
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.data.row_selection import evaluation_rows
from sella_rec.files import atomic_output
from sella_rec.llm.adapter import load_adapter
from sella_rec.llm.packing import Packer
from sella_rec.llm.scorer import YesNoScorer, compile_layers
from sella_rec.llm.scoring import score_split
from sella_rec.llm.soft_tokens import SoftTokens
from sella_rec.metrics.ranking import evaluate_slice
from sella_rec.model.bundle import build_prompts, load_bundle
from sella_rec.model.late_fusion import VALID_LOGITS, LateFusion, fit_late_fusion, load_valid_logits
from sella_rec.tracking.tracker import Tracker

PRIOR_LABELS = 5.0


def score_item_mean(config: Config, dataset: Path, output: Path) -> None:
    """The log odds of the item's mean train label, with `PRIOR_LABELS` more at the mean of all; valid: all its rows."""
    data = PreparedData(dataset)
    likes, labels = (np.bincount(data.train.item, of, minlength=data.n_items + 1) for of in (data.train.label, None))
    scores = logit((likes + PRIOR_LABELS * data.train.label.mean()) / (labels + PRIOR_LABELS))
    valid = evaluate_slice(data.valid.user, data.valid.label, scores[data.valid.item])
    _write(output, scores[rows_to_score(config, data).item], valid)


def score_collab(config: Config, dataset: Path, collab: Path, output: Path) -> None:
    """The collaborative model `collab.fused_model` alone; valid: all its rows."""
    test = rows_to_score(config, PreparedData(dataset))
    of_model = json.loads((collab / "metrics.json").read_text())[config.collab.fused_model]
    valid = {name: of_model[f"valid_{name}"] for name in ("auc", "uauc")}
    _write(output, _tables(config, collab).score_split(test), valid)


def score_text(config: Config, dataset: Path, adapter: Path, output: Path, tracker: Tracker) -> None:
    """The tuned LLM without stage 3; valid: the users that tune-llm drew."""
    data = PreparedData(dataset)
    llm, tokenizer, _ = load_adapter(adapter / "adapter", config.backbone.device)
    if config.tune.compile:
        compile_layers(llm)
    prompts = build_prompts(tokenizer, config, data.items)
    scorer = YesNoScorer(llm, prompts.yes_id, prompts.no_id)
    show = partial(tracker.progress, note="scoring test")
    logits = score_split(scorer, Packer(prompts), rows_to_score(config, data), config.evaluate.tokens_per_batch, show)
    _write(output, logits, json.loads((adapter / "metrics.json").read_text()))


def score_late(config: Config, dataset: Path, at: Mapping[str, Path], output: Path) -> None:
    """Late fusion of both, its weights fitted on the valid rows of the users that tune-llm drew."""
    valid, text_only = load_valid_logits(at["tune-llm"] / VALID_LOGITS, PreparedData(dataset), config.evaluate)
    collab = _tables(config, at["train-collab"]).score_split(valid)
    fusion = fit_late_fusion(valid.label, text_only, collab)
    on_valid = evaluate_slice(valid.user, valid.label, fusion.score(text_only, collab))
    _write(output, fusion.score(read_logits(at["score-text"]), read_logits(at["score-collab"])), on_valid)


def score_aligned(config: Config, dataset: Path, aligned: Path, output: Path) -> None:
    """The collaborative score that the residual adds, alone; valid: all its rows."""
    data, tables = PreparedData(dataset), CollabTables.load(aligned / "tables")
    valid = evaluate_slice(data.valid.user, data.valid.label, tables.score_split(data.valid))
    _write(output, tables.score_split(rows_to_score(config, data)), valid)


def score_fused(config: Config, dataset: Path, bundle: Path, output: Path, tracker: Tracker) -> None:
    """The LLM with its special tokens, the residual left out; valid: the users that fuse drew."""
    test = rows_to_score(config, PreparedData(dataset))
    show = partial(tracker.progress, note="scoring test")
    model = load_bundle(bundle, config.backbone.device)
    if config.fuse.compile:
        compile_layers(model.llm)
    model.soft_tokens.set_residual(1.0, 0.0, 0.0)
    _write(output, model.score(test, "sella", show), json.loads((bundle / "metrics.json").read_text())["trained"])


def score_residual(config: Config, dataset: Path, at: Mapping[str, Path], output: Path) -> None:
    """What the bundle of stage 3 says, residual included, from the LLM's logits of `score_fused`."""
    tokens = SoftTokens.from_state(load_file(at["fuse"] / "soft_tokens.safetensors"))
    fusion = LateFusion(tokens.llm_weight.item(), tokens.collab_weight.item(), tokens.bias.item())
    collab = tokens.tables.score_split(rows_to_score(config, PreparedData(dataset)))
    valid = json.loads((at["fuse"] / "metrics.json").read_text())["final"]
    _write(output, fusion.score(read_logits(at["score-fused"]), collab), valid)


def rows_to_score(config: Config, data: PreparedData) -> Split:
    """The rows every arm is scored on."""
    return evaluation_rows(data.test, config.evaluate)


def read_logits(scored: Path) -> np.ndarray:
    """Logits of the test rows, float32 [n]."""
    return pl.read_parquet(scored / "test.parquet")["logit"].to_numpy()


def read_valid(scored: Path) -> dict[str, Any]:
    """auc and uauc on valid."""
    return json.loads((scored / "valid.json").read_text())


def _tables(config: Config, collab: Path) -> CollabTables:
    return CollabTables.load(collab / config.collab.fused_model / "tables")


def _write(output: Path, logits: np.ndarray, valid: Mapping[str, Any]) -> None:
    with atomic_output(output) as folder:
        folder.mkdir()
        pl.DataFrame({"logit": logits.astype(np.float32)}).write_parquet(folder / "test.parquet")
        (folder / "valid.json").write_text(json.dumps({name: valid[name] for name in ("auc", "uauc")}))
