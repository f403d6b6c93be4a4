"""Publishes evaluate's results in the pipeline's user interface: metrics, a ROC curve, a page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import roc_curve

_MEASURES = ("auc", "uauc", "ndcg", "map")
_CURVE_POINTS = 200
# Which input artifact holds the loss curves of which step.
_STEP_OF = {"collab": "train-collab", "adapter": "tune-llm", "aligned": "align-collab", "bundle": "fuse"}


def find_curves(inputs: Mapping[str, Path]) -> dict[str, Path]:
    """Paths of curves.json by step, from the paths of input artifacts by name."""
    return {step: inputs[name] / "curves.json" for name, step in _STEP_OF.items()}


def publish(evaluation: Path, metrics: Any, roc: Any, report: str) -> None:
    """Fill the step's output artifacts.

    Args:
        evaluation: evaluate's folder.
        metrics: a KFP Metrics artifact; receives `<arm>_<measure>` on all test rows.
        roc: a KFP ClassificationMetrics artifact; receives SeLLa-Rec's curve, at most 200 points.
        report: path that the page is copied to.
    """
    for arm, slices in json.loads((evaluation / "summary.json").read_text())["arms"].items():
        for name in _MEASURES:
            if slices["all"][name] is not None:
                metrics.log_metric(f"{arm}_{name}", round(slices["all"][name], 5))
    rows = pl.read_parquet(evaluation / "predictions.parquet").filter(pl.col("arm") == "sella")
    fpr, tpr, threshold = roc_curve(rows["label"].to_numpy(), rows["score"].to_numpy())
    # scikit-learn starts at infinity, which is not JSON; scores are probabilities
    threshold[0] = 1.0
    shown = np.unique(np.linspace(0, len(fpr) - 1, _CURVE_POINTS).astype(int))
    roc.log_roc_curve(fpr[shown].tolist(), tpr[shown].tolist(), threshold[shown].tolist())
    for artifact in (metrics, roc):
        # their values are metadata, but a local cache treats an artifact without a file as lost
        _write(Path(artifact.path), json.dumps(artifact.metadata))
    Path(report).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(evaluation / "report.html", report)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
