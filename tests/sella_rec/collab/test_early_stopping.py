"""Early stopping keeps the best state, not the last."""

import pytest
import torch
from torch import nn

from sella_rec.collab.early_stopping import EarlyStopping


def test_restores_the_best_epoch_and_stops_after_patience():
    module = nn.Linear(1, 1, bias=False)
    stopping = EarlyStopping(module, patience=2)
    for epoch, value in enumerate([0.5, 0.7, 0.6, 0.7], start=1):
        assert not stopping.stop
        with torch.no_grad():
            module.weight.fill_(epoch)
        assert stopping.update(value) == (epoch in (1, 2))
    assert stopping.stop
    stopping.restore()
    assert (stopping.best_epoch, stopping.best_value, module.weight.item()) == (2, 0.7, 2.0)


def test_a_diverged_training_is_an_error():
    with pytest.raises(ValueError, match="learning rate"):
        EarlyStopping(nn.Linear(1, 1), patience=2).update(float("nan"))
