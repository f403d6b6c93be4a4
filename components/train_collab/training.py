"""Fits one collaborative model by binary cross-entropy, keeping the epoch with the best valid AUC."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from sella_rec.collab.early_stopping import EarlyStopping
from sella_rec.collab.models import CollabModel
from sella_rec.config import CollabModelConfig
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.metrics.ranking import evaluate_slice
from sella_rec.tracking.tracker import Tracker


@dataclass
class Fit:
    """Results of a training besides the model: its curves over epochs (counted from 1) and its valid metrics."""

    train_loss: list[float] = field(default_factory=list)
    valid_auc: list[float] = field(default_factory=list)
    metrics: dict[str, float | None] = field(default_factory=dict)


def fit(model: CollabModel, data: PreparedData, settings: CollabModelConfig, tracker: Tracker) -> Fit:
    """Train in place; the model ends in its best epoch's state.

    Args:
        model: fresh from `create_model`, on the device to train on.
        data: its train and valid splits are read.
        settings: the model's section of the configuration.
        tracker: receives `<kind>_train_loss` and `<kind>_valid_auc` each epoch, and progress.

    Raises:
        ValueError: the scores became NaN.
    """
    started = time.perf_counter()
    result, stopping = Fit(), EarlyStopping(model, settings.patience)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    while not stopping.stop and stopping.epoch < settings.max_epochs:
        result.train_loss.append(_train_epoch(model, data.train, optimizer, settings.batch_size))
        result.valid_auc.append(_valid_auc(model, data))
        stopping.update(result.valid_auc[-1])
        epoch = {"train_loss": result.train_loss[-1], "valid_auc": result.valid_auc[-1]}
        tracker.metrics({f"{model.kind}_{name}": value for name, value in epoch.items()}, step=stopping.epoch)
        tracker.progress(stopping.epoch, settings.max_epochs, f"{model.kind}: valid AUC {stopping.best_value:.4f}")
    stopping.restore()
    seconds = time.perf_counter() - started
    result.metrics = _valid_metrics(model, data) | {"epochs": stopping.best_epoch, "seconds": round(seconds, 2)}
    return result


def _train_epoch(model: CollabModel, train: Split, optimizer: torch.optim.Optimizer, batch_size: int) -> float:
    """One pass over train in random order; the mean loss of a row."""
    device = model.user.device
    user, item, label = (torch.from_numpy(column.copy()).to(device) for column in (train.user, train.item, train.label))
    model.train()
    total = torch.zeros((), device=device)
    for rows in torch.randperm(len(train)).to(device).split(batch_size):
        loss = F.binary_cross_entropy_with_logits(model(user[rows], item[rows]), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(rows)
    return float(total) / len(train)


def _valid_auc(model: CollabModel, data: PreparedData) -> float:
    model.eval()
    return float(roc_auc_score(data.valid.label, model.tables(data.train).score_split(data.valid)))


def _valid_metrics(model: CollabModel, data: PreparedData) -> dict[str, float | None]:
    model.eval()
    scores = model.tables(data.train).score_split(data.valid)
    found = evaluate_slice(data.valid.user, data.valid.label, scores)
    return {"valid_auc": found["auc"], "valid_uauc": found["uauc"]}
