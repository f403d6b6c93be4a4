"""Stage 2: collaborative vectors trained on, and a projection that carries them to their items' semantics."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import load_file, save_file

from components.align_collab.model import AlignedModel
from components.align_collab.picture import AlignmentMap
from components.align_collab.training import AlignmentFit, Measures, fit
from sella_rec.collab.models import collab_device, load_model
from sella_rec.config import Config
from sella_rec.data.dataset import PreparedData
from sella_rec.files import atomic_output
from sella_rec.tracking.tracker import Tracker


def align_collab(config: Config, dataset: Path, collab: Path, semantics: Path, output: Path, tracker: Tracker) -> None:
    """Train the warm-started collaborative model and the projection jointly, and write both.

    Args:
        config: sections align, collab (the fused model and its weight decay), and seed.
        dataset: prepare-data's folder.
        collab: train-collab's folder.
        semantics: distill-items' folder.
        output: `tables/` (CollabTables), `projection.safetensors` and `projection.json` (dim, hidden, out),
            `semantics.safetensors` (as given, or trained), `semantic_bias.safetensors` (weight, float32 [d]: what
            standardized semantics have added to the tables' item biases), `metrics.json` (before and after: valid_auc,
            cosine, top1, top10; epochs: the kept one; seconds), `curves.json`, `alignment.parquet` (see
            `AlignmentMap`).
        tracker: receives both losses and the measures by epoch (0: before training), progress.

    Raises:
        ValueError: semantics and dataset do not belong together, or training diverged.
    """
    started = time.perf_counter()
    torch.manual_seed(config.seed)
    data, device = PreparedData(dataset), collab_device()
    model = AlignedModel(load_model(collab / config.collab.fused_model), _load_semantics(semantics, data), config.align)
    model.to(device)
    measures, picture = Measures(model, data, config.seed), AlignmentMap(model, data, config.seed)

    before, points = measures(), [picture.snapshot("before")]
    tracker.metrics(before, step=0)
    decay = getattr(config.collab, config.collab.fused_model).weight_decay
    fitted = fit(model, measures, data.train, config.align, decay, tracker)
    after = measures()
    points.append(picture.snapshot("after"))

    tracker.metrics({f"after/{name}": value for name, value in after.items()})
    metrics: dict[str, Any] = {"before": before, "after": after, "valid_auc": after["valid_auc"]}
    metrics |= {"epochs": fitted.best_epoch, "seconds": round(time.perf_counter() - started, 2)}
    with atomic_output(output) as folder:
        folder.mkdir()
        _save_model(model, data, folder)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2))
        (folder / "curves.json").write_text(json.dumps(_curves(before, fitted)))
        pl.concat(points).write_parquet(folder / "alignment.parquet")


def _load_semantics(folder: Path, data: PreparedData) -> torch.Tensor:
    semantics = load_file(folder / "semantics.safetensors")["semantics"]
    if len(semantics) != data.n_items + 1:
        raise ValueError(
            f"{folder}/semantics.safetensors has {len(semantics)} rows, expected {data.n_items + 1} (items and "
            "padding): it was distilled from another data set: run distill-items again"
        )
    return semantics


def _save_model(model: AlignedModel, data: PreparedData, folder: Path) -> None:
    model.tables(data.train).save(folder / "tables")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.projection.state_dict().items()}
    save_file(state, folder / "projection.safetensors")
    first, _, last = model.projection
    sizes = {"dim": first.in_features, "hidden": first.out_features, "out": last.out_features}
    (folder / "projection.json").write_text(json.dumps(sizes))
    save_file({"weight": model.semantic_bias.weight.detach()[0].cpu()}, folder / "semantic_bias.safetensors")
    save_file({"semantics": model.semantics.detach().cpu().contiguous()}, folder / "semantics.safetensors")


def _curves(before: dict[str, float], fitted: AlignmentFit) -> dict[str, dict[str, list[float]]]:
    """Losses from epoch 1 on; measures from 0, before training."""
    epochs = list(enumerate(fitted.epochs, start=1))
    return {
        name: {
            "step": [step for step, values in [(0, before), *epochs] if name in values],
            "value": [values[name] for _, values in [(0, before), *epochs] if name in values],
        }
        for name in fitted.epochs[0]
    }
