"""One row of results: an arm with one seed, on all test rows and on slices of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.arms import ARMS, Arm
from benchmarks.paper.scores import read_logits, read_valid, rows_to_score
from benchmarks.paper.stages import Stages
from sella_rec.config import Config
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.metrics.ranking import evaluate_slice

Row = dict[str, Any]
LAST_STEP = {
    "item_mean": "score-item-mean",
    "collab": "score-collab",
    "text_only": "score-text",
    "late_fusion": "score-late",
    "aligned": "score-aligned",
    "fused": "score-fused",
    "residual": "score-residual",
}


def stages_of(arm: Arm, config: Config, data_version: str, out: Path, seed: int) -> Stages:
    """The steps behind an arm."""
    return Stages(arm.configure(config, seed), data_version, out / "stages", f"seed {seed}, {arm.name}")


def scored_folder(row: Row, stages: Path) -> Path:
    """Where the scores are that a row was computed from, `stages` being the folder of all steps."""
    return stages / f"{LAST_STEP[ARMS[row['arm']].kind]}-{row['key']}" / "output"


def make_row(arm: Arm, stages: Stages, config: Config, seed: int) -> Row:
    """Do what is missing of the arm's steps, and evaluate.

    Returns:
        arm, seed, key (of its scores), test (see `evaluate_slice`), valid (auc, uauc), slices (test's, by name),
        costs (seconds, peak_rss_mb and commit by step).
    """
    last = LAST_STEP[arm.kind]
    scored = stages.folder(last)
    data = PreparedData(stages.folder("prepare-data"))
    test, logits = rows_to_score(config, data), read_logits(scored)
    slices = {
        name: evaluate_slice(test.user[mask], test.label[mask], logits[mask])
        for name, mask in slice_masks(data.train, test).items()
    }
    return {
        "arm": arm.name,
        "seed": seed,
        "key": stages.key(last),
        "test": evaluate_slice(test.user, test.label, logits),
        "valid": read_valid(scored),
        "slices": slices,
        "costs": stages.costs(last),
    }


def slice_masks(train: Split, test: Split) -> dict[str, np.ndarray]:
    """Boolean masks [n] of test rows: warm and cold, and by how often train has the row's user, and its item."""
    masks = {"warm": test.warm, "cold": ~test.warm}
    for name in ("user", "item"):
        counts = np.bincount(getattr(train, name), minlength=getattr(test, name).max() + 1)[getattr(test, name)]
        masks |= {f"{name}s with {rows}": mask for rows, mask in _by_tertile(counts).items()}
    return masks


def _by_tertile(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Masks of no train rows, and of three parts of the rest with about as many test rows each."""
    seen = counts[counts > 0]
    edges = [0, *np.quantile(seen, [1 / 3, 2 / 3], method="lower").astype(int), int(seen.max(initial=0))]
    masks = {"no train rows": counts == 0}
    for low, high in pairwise(edges):
        if high > low:
            masks[f"{low + 1} to {high} train rows"] = (counts > low) & (counts <= high)
    return {name: mask for name, mask in masks.items() if mask.any()}
