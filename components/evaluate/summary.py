"""The numbers of the comparison: every arm on every slice, with intervals, and SeLLa-Rec against each other arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sella_rec.data.dataset import Split
from sella_rec.metrics.bootstrap import Bootstrap, bootstrap
from sella_rec.metrics.ranking import evaluate_slice

ARMS = ("mf", "lightgcn", "text_only", "sella")
SLICES = ("all", "warm", "cold")
METRICS = ("auc", "uauc", "ndcg", "map")
LATE_FUSION = "late_fusion"


def slice_masks(rows: Split) -> dict[str, np.ndarray]:
    """Boolean masks [n] by slice; warm: user and item both occur in train."""
    return {"all": np.ones(len(rows), dtype=bool), "warm": rows.warm, "cold": ~rows.warm}


def summarize(rows: Split, logits: Mapping[str, np.ndarray], samples: int, seed: int) -> dict[str, Any]:
    """Evaluate the arms and the reference, late fusion.

    Args:
        rows: n test rows.
        logits: float32 [n] for each of ARMS and for LATE_FUSION.
        samples: bootstrap resamples.
        seed: of the resamples.

    Returns:
        arms: {arm: {slice: {auc, uauc, ndcg, map, rows, users, uauc_ci, auc_ci}}};
        paired: {"sella-vs-<arm>": {uauc_diff, ci, auc_diff, auc_ci}} on all rows;
        late_fusion: as an arm's "all", with `paired`, SeLLa-Rec minus late fusion.
        Metrics of a slice without both classes are None.
    """
    arms: dict[str, dict[str, Any]] = {arm: {} for arm in ARMS}
    for name, mask in slice_masks(rows).items():
        scored = {arm: logits[arm][mask] for arm in (ARMS if name != "all" else logits)}
        part = rows.take(mask)
        resampled = bootstrap(part.user, part.label, scored, samples, seed)
        values = {arm: _with_intervals(arm, part, score, resampled) for arm, score in scored.items()}
        for arm in ARMS:
            arms[arm][name] = values[arm]
        if name == "all":
            late_fusion = values[LATE_FUSION] | {"paired": _paired(values, resampled, LATE_FUSION)}
            paired = {f"sella-vs-{arm}": _paired(values, resampled, arm) for arm in ARMS if arm != "sella"}
    return {"arms": arms, "paired": paired, LATE_FUSION: late_fusion}


def _with_intervals(arm: str, part: Split, score: np.ndarray, resampled: Bootstrap) -> dict[str, Any]:
    intervals = {f"{metric}_ci": resampled.interval(arm, metric) for metric in ("uauc", "auc")}
    return evaluate_slice(part.user, part.label, score) | intervals


def _paired(values: Mapping[str, dict[str, Any]], resampled: Bootstrap, other: str) -> dict[str, Any]:
    """SeLLa-Rec minus another arm."""

    def difference(metric: str) -> float | None:
        ours, theirs = values["sella"][metric], values[other][metric]
        return None if ours is None or theirs is None else ours - theirs

    return {
        "uauc_diff": difference("uauc"),
        "ci": resampled.difference("sella", other, "uauc"),
        "auc_diff": difference("auc"),
        "auc_ci": resampled.difference("sella", other, "auc"),
    }


def flat_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """`<arm>_<slice>_<metric>` and `sella_vs_<arm>_<metric>_diff`, for tracking; what is None is left out."""
    flat = {
        f"{arm}_{part}_{metric}": summary["arms"][arm][part][metric]
        for arm in ARMS
        for part in SLICES
        for metric in METRICS
    }
    flat |= {f"{LATE_FUSION}_all_{metric}": summary[LATE_FUSION][metric] for metric in METRICS}
    paired = summary["paired"] | {"sella-vs-late_fusion": summary[LATE_FUSION]["paired"]}
    for name, values in paired.items():
        flat |= {f"{name.replace('-', '_')}_{metric}_diff": values[f"{metric}_diff"] for metric in ("auc", "uauc")}
    return {name: value for name, value in flat.items() if value is not None}
