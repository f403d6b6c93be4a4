"""Stage 3: teach a frozen, tuned LLM to read collaborative vectors and item semantics as special tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from transformers import set_seed

from sella_rec.collab.tables import CollabTables
from sella_rec.config import Config
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.data.row_selection import sample_users
from sella_rec.files import atomic_output
from sella_rec.llm.adapter import load_adapter
from sella_rec.llm.packing import Packer
from sella_rec.llm.projection import Projection
from sella_rec.llm.scorer import YesNoScorer, compile_layers
from sella_rec.llm.scoring import score_split
from sella_rec.llm.soft_tokens import SoftTokens
from sella_rec.llm.training import train
from sella_rec.metrics.ranking import evaluate_slice
from sella_rec.model.bundle import build_prompts, save_bundle
from sella_rec.model.late_fusion import VALID_LOGITS, check_both_classes, fit_late_fusion, load_valid_logits
from sella_rec.runtime.checkpoint_store import open_checkpoint_store
from sella_rec.runtime.step import Step
from sella_rec.tracking.tracker import Tracker


@dataclass(frozen=True)
class FuseInputs:
    """Output folders of the steps before."""

    dataset: Path
    collab: Path
    adapter: Path
    semantics: Path
    aligned: Path


def run(step: Step) -> None:
    """fuse in this process, which may be one of several."""
    fuse(step.config, FuseInputs(**step.inputs), step.output, step.checkpoints, step.tracker, step.run_config())


def fuse(
    config: Config,
    inputs: FuseInputs,
    output: Path,
    checkpoints: Path,
    tracker: Tracker,
    run_config: Config | None = None,
) -> None:
    """Train projections and embedding tables behind the frozen LLM and write the self-contained bundle.

    Args:
        config: sections fuse, prompt, evaluate, align (width of the projection), collab (the fused model).
        inputs: what the steps before wrote.
        output: the bundle, with `curves.json` and `metrics.json` (valid: text_only; step_0 and trained, the LLM with
            its tokens before and after training; final, as the bundle scores, where the residual's three numbers are
            fitted on the same rows).
        checkpoints: folder that outlives a killed attempt; training continues from it, or from its copy at
            `launch.checkpoint_uri`.
        tracker: receives loss, valid metrics, progress.
        run_config: the whole configuration of the run, for the bundle; none: `config` is that.

    Raises:
        LateFusionError: the residual cannot be fitted, as the valid rows drawn hold one class.
    """
    set_seed(config.seed)
    data = PreparedData(inputs.dataset)
    llm, tokenizer, _ = load_adapter(inputs.adapter / "adapter", config.backbone.device, config.launch.sharded)
    prompts = build_prompts(tokenizer, config, data.items)
    if config.fuse.gradient_checkpointing:
        llm.gradient_checkpointing_enable({"use_reentrant": False})
    if config.fuse.compile:
        compile_layers(llm)
    soft_tokens = build_soft_tokens(config, inputs, llm).to(llm.device)
    valid, text_logits = load_valid_logits(inputs.adapter / VALID_LOGITS, data, config.evaluate)

    scorer = YesNoScorer(llm, prompts.yes_id, prompts.no_id, soft_tokens)
    packer = Packer(prompts, soft_tokens=True, warm_token=config.fuse.warm_token)
    sampled = sample_users(valid, config.fuse.valid_users, config.seed)
    shown = valid.take(sampled)
    if config.fuse.residual:
        # before training, not after it
        check_both_classes(shown.label)

    def valid_logits(note: str) -> np.ndarray:
        show = partial(tracker.progress, note=f"scoring valid {note}")
        return score_split(scorer, packer, shown, config.evaluate.tokens_per_batch, show)

    logits = {"text_only": text_logits[sampled], "step_0": valid_logits("before training")}
    store = open_checkpoint_store(config.launch, checkpoints)
    curves = train(scorer, packer, data.train, config.fuse, checkpoints, tracker, config.seed, store)
    logits["trained"] = valid_logits("after training")
    residual = config.fuse.residual
    logits["final"] = add_residual(soft_tokens, shown, logits["trained"]) if residual else logits["trained"]
    metrics = {stage: evaluate_slice(shown.user, shown.label, scores) for stage, scores in logits.items()}
    for stage, values in metrics.items():
        tracker.metrics({f"valid_{stage}_{name}": values[name] for name in ("auc", "uauc")})

    with atomic_output(output) as folder:
        save_bundle(folder, run_config or config, data, inputs.adapter / "adapter", soft_tokens)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2))
        (folder / "curves.json").write_text(json.dumps(curves))


def build_soft_tokens(config: Config, inputs: FuseInputs, llm: Any) -> SoftTokens:
    """Tables and projection from align-collab, or, for the ablations, raw tables and a projection at random."""
    tables = CollabTables.load(
        inputs.aligned / "tables" if config.fuse.aligned else inputs.collab / config.collab.fused_model / "tables"
    )
    semantics = load_file(inputs.semantics / "semantics.safetensors")["semantics"]
    embeddings = llm.get_input_embeddings().weight
    projection = Projection(tables.user_vectors.shape[1], config.align.hidden, embeddings.shape[1])
    if config.fuse.warm_start:
        projection.load_state_dict(load_file(inputs.aligned / "projection.safetensors"))
    token_norm = embeddings.float().norm(dim=1).mean().item()
    bias = load_file(inputs.aligned / "semantic_bias.safetensors")["weight"] if config.fuse.aligned else None
    return SoftTokens(tables, semantics, projection, token_norm, config.fuse.gain, semantic_bias=bias)


def add_residual(soft_tokens: SoftTokens, valid: Split, llm_logits: np.ndarray) -> np.ndarray:
    """Add the collaborative score to the trained LLM's logit, with weights fitted on valid; the sum on valid, [n].

    Not trained together: on train rows, to which the collaborative score is fitted, the LLM would learn nothing.
    """
    collab = soft_tokens.tables.score_split(valid)
    fused = fit_late_fusion(valid.label, llm_logits, collab)
    soft_tokens.set_residual(fused.llm, fused.collab, fused.intercept)
    return fused.score(llm_logits, collab)
