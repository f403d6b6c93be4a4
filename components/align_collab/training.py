"""Trains an `AlignedModel` epoch by epoch and keeps the best one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from components.align_collab.model import AlignedModel, alignment
from sella_rec.collab.early_stopping import EarlyStopping
from sella_rec.config import AlignConfig
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.tracking.tracker import Tracker

# Items that retrieval is measured on, each against all: a standard error of a hundredth at most.
_MEASURED_ITEMS = 2000


class Measures:
    """What is measured before, while and after training: valid AUC, and alignment over items seen in train."""

    def __init__(self, model: AlignedModel, data: PreparedData, seed: int):
        self._model = model
        self._data = data
        device = model.semantics.device
        self._items = torch.from_numpy(np.unique(data.train.item)).to(device)
        order = np.random.default_rng(seed).permutation(len(self._items))
        self._measured = torch.from_numpy(order[:_MEASURED_ITEMS]).to(device)

    def __call__(self) -> dict[str, float]:
        """valid_auc (unseen users folded in), cosine, top1, top10."""
        self._model.eval()
        scores = self._model.tables(self._data.train).score_split(self._data.valid)
        auc = float(roc_auc_score(self._data.valid.label, scores))
        return {"valid_auc": auc, **alignment(*self._model.pairs(self._items), self._measured)}


@dataclass
class AlignmentFit:
    """Results of a training besides the model."""

    epochs: list[dict[str, float]]  # collab_loss, align_loss and the measures, from epoch 1 on
    best_epoch: int


def fit(
    model: AlignedModel, measures: Measures, train: Split, config: AlignConfig, collab_decay: float, tracker: Tracker
) -> AlignmentFit:
    """Train in place; the model ends in the state of the epoch with the best valid AUC + top-10 retrieval.

    Valid AUC alone hardly changes, as the model is trained already, so that noise would pick the epoch. Both are shares
    between 0 and 1; `weight` balances them.

    Args:
        collab_decay: weight decay the collaborative model was trained with: with less, it would overfit from here.

    Raises:
        ValueError: the scores became NaN.
    """
    stopping, epochs = EarlyStopping(model, config.patience), []
    groups = [
        {"params": list(model.collab.parameters()), "weight_decay": collab_decay},
        {"params": [*model.projection.parameters(), model.semantics], "weight_decay": config.weight_decay},
        {
            "params": list(model.semantic_bias.parameters()),
            "lr": config.semantic_bias_learning_rate,
            "weight_decay": collab_decay,
        },
    ]
    optimizer = torch.optim.Adam(groups, lr=config.learning_rate, fused=True)
    while not stopping.stop and stopping.epoch < config.max_epochs:
        epochs.append(_train_epoch(model, train, optimizer, config) | measures())
        stopping.update(epochs[-1]["valid_auc"] + epochs[-1]["top10"])
        tracker.metrics(epochs[-1], step=stopping.epoch)
        note = "valid AUC {valid_auc:.4f}, own semantics among the ten nearest {top10:.0%}".format(**epochs[-1])
        tracker.progress(stopping.epoch, config.max_epochs, note)
    stopping.restore()
    return AlignmentFit(epochs, stopping.best_epoch)


def _train_epoch(
    model: AlignedModel, train: Split, optimizer: torch.optim.Optimizer, config: AlignConfig
) -> dict[str, float]:
    """One pass over train in random order; both losses, mean over steps."""
    device = model.semantics.device
    user, item, label = (torch.from_numpy(column.copy()).to(device) for column in (train.user, train.item, train.label))
    model.train()
    totals = torch.zeros(2, device=device)
    batches = torch.randperm(len(train)).to(device).split(config.batch_size)
    for rows in batches:
        collab_loss, align_loss = model.losses(user[rows], item[rows], label[rows])
        optimizer.zero_grad()
        (collab_loss + config.weight * align_loss).backward()
        optimizer.step()
        totals += torch.stack([collab_loss, align_loss]).detach()
    collab_mean, align_mean = (totals / len(batches)).tolist()
    return {"collab_loss": collab_mean, "align_loss": align_mean}
