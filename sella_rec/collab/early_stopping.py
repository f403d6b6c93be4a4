"""Keeps the best epoch of a training run and says when to stop."""

from __future__ import annotations

import math

import torch
from torch import nn


class EarlyStopping:
    """Watches one measure that should rise.

    Args:
        module: what is trained; its best state is kept on the side.
        patience: epochs without a new best before `stop` turns true.
    """

    def __init__(self, module: nn.Module, patience: int):
        self._module = module
        self._patience = patience
        self._best_state: dict[str, torch.Tensor] = {}
        self.best_value = float("-inf")
        self.best_epoch = 0
        self.epoch = 0

    @property
    def stop(self) -> bool:
        return self.epoch - self.best_epoch >= self._patience

    def update(self, value: float) -> bool:
        """Count an epoch with its measure; true if it is the best so far.

        Raises:
            ValueError: the measure is not a number, which is what a diverged training ends in.
        """
        if math.isnan(value):
            raise ValueError(f"epoch {self.epoch + 1}: the valid measure is NaN; lower the learning rate")
        self.epoch += 1
        better = value > self.best_value
        if better:
            self.best_value, self.best_epoch = value, self.epoch
            self._best_state = {name: t.detach().clone() for name, t in self._module.state_dict().items()}
        return better

    def restore(self) -> None:
        """Put the best epoch's state back into the module."""
        self._module.load_state_dict(self._best_state)
