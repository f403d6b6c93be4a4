"""Collaborative models behind one small interface.

Both models score `u . v + b_u + b_i + b` (Koren et al. 2009, Computer 42(8), biased matrix factorization); LightGCN
takes its vectors from the graph of likes (He et al. 2020, arXiv 2002.02126).

Shapes: U users, I items, B rows, H history length, k dimension, E likes. Row 0 of every table is padding and stands
for an unknown user or item: zeros. Everything is float32.
"""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from sella_rec.collab.tables import CollabTables, fit_fold_in_scale, seen_rows
from sella_rec.config import CollabConfig
from sella_rec.data.dataset import PreparedData, Split

# Small, so that the biases are learned first; LightGCN divides it by the degrees' roots, which it makes up for.
_INIT_STD = 0.03


def collab_device() -> torch.device:
    """CUDA where there is one, else the CPU; MPS has no sparse products."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class CollabModel(nn.Module, ABC):
    """Vectors and biases of users and items, trained on logits of P(like).

    Args:
        n_users, n_items: U and I, padding not counted.
        dim: k.
        dropout: share of vector entries dropped in training, before the product.
    """

    kind: str

    def __init__(self, n_users: int, n_items: int, dim: int, dropout: float = 0.0):
        super().__init__()
        self.settings: dict[str, Any] = {"n_users": n_users, "n_items": n_items, "dim": dim, "dropout": dropout}
        self.user = nn.Parameter(torch.randn(n_users + 1, dim) * _INIT_STD)
        self.item = nn.Parameter(torch.randn(n_items + 1, dim) * _INIT_STD)
        # [rows, 1]: the same lookup as for vectors, and so its fast gradient
        self.user_bias = nn.Parameter(torch.zeros(n_users + 1, 1))
        self.item_bias = nn.Parameter(torch.zeros(n_items + 1, 1))
        self.global_bias = nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(dropout)

    @abstractmethod
    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors that enter the product, [U + 1, k] and [I + 1, k], with gradient."""

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Logits [B] of P(like) for index pairs, int64 [B] each."""
        return self.score(self.vectors(), user, item)

    def score(self, vectors: tuple[torch.Tensor, torch.Tensor], user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """`forward` from vectors computed once for several uses."""
        of_user: torch.Tensor = self.dropout(F.embedding(user, vectors[0]))
        of_item: torch.Tensor = self.dropout(F.embedding(item, vectors[1]))
        biases = F.embedding(user, self.user_bias) + F.embedding(item, self.item_bias)
        return (of_user * of_item).sum(-1) + biases[:, 0] + self.global_bias

    @torch.no_grad()
    def zero_unseen(self, train: Split) -> None:
        """Zero the vectors of users and items without a train row; without gradient, they stay zero."""
        for table, seen in ((self.user, train.user), (self.item, train.item)):
            table.mul_(seen_rows(len(table), seen).to(table.device)[:, None])

    @torch.no_grad()
    def tables(self, train: Split) -> CollabTables:
        """Freeze the model as it is now, with the fold-in scale fitted on the histories of train."""
        user, item = (vectors.detach().clone() for vectors in self.vectors())
        return CollabTables(
            user_vectors=user,
            item_vectors=item,
            user_bias=self.user_bias[:, 0].detach().clone(),
            item_bias=self.item_bias[:, 0].detach().clone(),
            global_bias=self.global_bias.detach().clone(),
            user_in_train=seen_rows(len(user), train.user).to(user.device),
            fold_in_scale=fit_fold_in_scale(user, item, train),
        )

    def save(self, folder: Path) -> None:
        """Write model.safetensors and config.json (the class and its arguments) into a new or existing folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: t.detach().cpu().contiguous() for name, t in self.state_dict().items()}, folder / "model.safetensors"
        )
        (folder / "config.json").write_text(json.dumps({"kind": self.kind, **self.settings}, indent=2))


class MatrixFactorization(CollabModel):
    """Free vectors per user and item."""

    kind = "mf"

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.user, self.item


class LightGCN(CollabModel):
    """Mean of the free vectors and their propagations over the symmetrically normalised graph of likes.

    Args:
        likes: int64 [2, E], user and item index of each like in train, no pair twice.
        layers: propagation steps.
    """

    kind = "lightgcn"

    def __init__(self, n_users: int, n_items: int, dim: int, dropout: float = 0.0, *, likes: torch.Tensor, layers: int):
        super().__init__(n_users, n_items, dim, dropout)
        self.settings["layers"] = layers
        self.layers = layers
        self.register_buffer("likes", likes)
        self.register_buffer("adjacency", _normalized_adjacency(likes, n_users + 1, n_items + 1), persistent=False)

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        layer = total = torch.cat([self.user, self.item])
        for _ in range(self.layers):
            layer = _SymmetricProduct.apply(self.adjacency, layer)  # type: ignore[no-untyped-call]
            total = total + layer
        mean = total / (self.layers + 1)
        return mean[: len(self.user)], mean[len(self.user) :]


class _SymmetricProduct(torch.autograd.Function):
    """`adjacency @ x` for a symmetric sparse matrix: its gradient is the same product, which saves the transpose."""

    @staticmethod
    def forward(ctx: Any, adjacency: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        ctx.adjacency = adjacency
        return adjacency @ x

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, ctx.adjacency @ gradients[0]


def _normalized_adjacency(likes: torch.Tensor, users: int, items: int) -> torch.Tensor:
    """D^-1/2 A D^-1/2 of the bipartite graph, sparse CSR [users + items, users + items]."""
    edges = torch.stack([likes[0], likes[1] + users])
    edges = torch.cat([edges, edges.flip(0)], dim=1)
    degree = torch.bincount(edges[0], minlength=users + items).float()
    weight = (degree[edges[0]] * degree[edges[1]]).rsqrt()
    coo = torch.sparse_coo_tensor(edges, weight, (users + items,) * 2, check_invariants=True)
    with warnings.catch_warnings():  # torch calls CSR beta; the product used here is held against PyTorch Geometric
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return coo.coalesce().to_sparse_csr()


def create_model(kind: str, config: CollabConfig, data: PreparedData) -> CollabModel:
    """A fresh model (`mf` or `lightgcn`) for a data set, drawn from torch's random state."""
    settings = config.mf if kind == "mf" else config.lightgcn
    sizes = (data.n_users, data.n_items, config.dim, settings.dropout)
    if kind == "mf":
        model: CollabModel = MatrixFactorization(*sizes)
    else:
        liked = data.train.take(data.train.label == 1)
        likes = np.unique(np.stack([liked.user, liked.item]), axis=1)
        model = LightGCN(*sizes, likes=torch.from_numpy(likes), layers=config.lightgcn.layers)
    model.zero_unseen(data.train)
    return model


def load_model(folder: str | Path) -> CollabModel:
    """Read what `CollabModel.save` wrote, on the CPU.

    Raises:
        ValueError: config.json names a kind that is neither mf nor lightgcn.
    """
    settings = json.loads((Path(folder) / "config.json").read_text())
    state = load_file(Path(folder) / "model.safetensors")
    kind = settings.pop("kind")
    if kind not in ("mf", "lightgcn"):
        raise ValueError(f"{folder}/config.json: kind is {kind!r}, expected 'mf' or 'lightgcn': train the model again")
    model = MatrixFactorization(**settings) if kind == "mf" else LightGCN(**settings, likes=state["likes"])
    model.load_state_dict(state)
    return model
