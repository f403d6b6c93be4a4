"""Trains matrix factorization and LightGCN: the baselines, and the collaborative knowledge for the LLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from components.train_collab.training import Fit, fit
from sella_rec.collab.models import collab_device, create_model
from sella_rec.config import Config
from sella_rec.data.dataset import PreparedData
from sella_rec.files import atomic_output
from sella_rec.tracking.tracker import Tracker

MODELS = ("mf", "lightgcn")


def train_collab(config: Config, dataset: Path, output: Path, tracker: Tracker) -> None:
    """Train both models and write each with its frozen tables.

    Args:
        config: section collab, and seed.
        dataset: prepare-data's folder.
        output: `mf/` and `lightgcn/` (each model.safetensors, config.json, `tables/`), `metrics.json`
            ({model: valid_auc, valid_uauc, epochs, seconds}; epochs: the kept one) and `curves.json`.
        tracker: receives curves by epoch, the kept epochs' valid metrics, progress.

    Raises:
        ValueError: a training diverged.
    """
    data = PreparedData(dataset)
    fits: dict[str, Fit] = {}
    with atomic_output(output) as folder:
        for kind in MODELS:
            torch.manual_seed(config.seed)
            model = create_model(kind, config.collab, data).to(collab_device())
            fits[kind] = fit(model, data, getattr(config.collab, kind), tracker)
            model.save(folder / kind)
            model.tables(data.train).save(folder / kind / "tables")
        metrics = {kind: fitted.metrics for kind, fitted in fits.items()}
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2))
        (folder / "curves.json").write_text(json.dumps(_curves(fits)))
    tracker.metrics(
        {f"best/{kind}_{name}": v for kind, of in metrics.items() for name, v in of.items() if v is not None}
    )


def _curves(fits: dict[str, Fit]) -> dict[str, dict[str, list[Any]]]:
    curves = {}
    for kind, fitted in fits.items():
        for name in ("train_loss", "valid_auc"):
            values = getattr(fitted, name)
            curves[f"{kind}_{name}"] = {"step": list(range(1, len(values) + 1)), "value": values}
    return curves
