"""Matrix factorization and LightGCN on many interactions: milliseconds a step, seconds an epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.gpu.shapes import Row, Scale, peak_gib, synchronize
from benchmarks.prepare_data import ratings_of_a_shop
from sella_rec.collab.models import collab_device, create_model
from sella_rec.config import CollabConfig
from sella_rec.data.dataset import PreparedData, Split

_STEPS = 10


def collab(scale: Scale) -> Iterator[Row]:
    """One batch after the other, as train-collab takes them."""
    data = interactions_of_a_shop(scale.interactions)
    config = CollabConfig()
    for kind in ("mf", "lightgcn"):
        peak_gib()
        batch_size = getattr(config, kind).batch_size
        model = create_model(kind, config, cast(PreparedData, data)).to(collab_device())
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        split = data.train
        columns = [torch.from_numpy(c).to(model.user.device) for c in (split.user, split.item, split.label)]
        order = torch.randperm(len(split), device=model.user.device)
        ends = []
        for rows in order.split(batch_size)[: _STEPS + 3]:
            user, item, label = (column[rows] for column in columns)
            loss = F.binary_cross_entropy_with_logits(model(user, item), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            synchronize()
            ends.append(time.perf_counter())
        seconds = float(np.mean(np.diff(ends)[2:]))
        what = f"{kind}, {scale.interactions / 1e6:g} M rows, dim {config.dim}, {batch_size} a step"
        epoch = seconds * -(-len(split) // batch_size)
        yield what, {"ms a step": seconds * 1e3, "seconds an epoch, by the step": epoch, "peak GiB": peak_gib()}


def interactions_of_a_shop(count: int) -> Interactions:
    """As `benchmarks.prepare_data` draws them."""
    rows, items = ratings_of_a_shop(count)
    user, item, timestamp = (rows[name].to_numpy() for name in ("user_id", "item_id", "timestamp"))
    label = (rows["rating"] >= 4).to_numpy().astype(np.float32)
    none, known = np.zeros((count, 0), np.int64), np.ones(count, bool)
    return Interactions(int(user.max()), items.height, Split(user, item, label, timestamp, none, known))


@dataclass(frozen=True)
class Interactions:
    """What the collaborative models read of a prepared data set."""

    n_users: int
    n_items: int
    train: Split
