"""The alignment picture: projected item vectors and item semantics on one plane, before and after training."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA

from components.align_collab.model import AlignedModel
from sella_rec.data.dataset import PreparedData

_SHOWN_ITEMS = 500


class AlignmentMap:
    """Takes snapshots of a fixed random sample of train items, at most 500.

    The plane is that of the two main components of the semantics before training, as directions of unit length:
    alignment is by cosine, so lengths say nothing.
    """

    def __init__(self, model: AlignedModel, data: PreparedData, seed: int):
        in_train = np.unique(data.train.item)
        self._items = np.sort(np.random.default_rng(seed).permutation(in_train)[:_SHOWN_ITEMS])
        self._model = model
        self._labels = data.items.select("item_id", "title")[self._items - 1]
        everything = model.pairs(torch.from_numpy(in_train).to(model.semantics.device))[1]
        self._plane = PCA(n_components=2, random_state=seed).fit(_directions(everything))

    def snapshot(self, when: str) -> pl.DataFrame:
        """Two rows an item: item_id, title, kind (`projected` or `semantics`), when, x, y."""
        self._model.eval()
        projected, semantics = self._model.pairs(torch.from_numpy(self._items).to(self._model.semantics.device))
        return pl.concat(
            [
                self._labels.with_columns(kind=pl.lit(kind), when=pl.lit(when), x=points[:, 0], y=points[:, 1])
                for kind, vectors in (("projected", projected), ("semantics", semantics))
                for points in (self._plane.transform(_directions(vectors)),)
            ]
        )


def _directions(vectors: torch.Tensor) -> np.ndarray:
    return F.normalize(vectors, dim=-1).cpu().numpy()
