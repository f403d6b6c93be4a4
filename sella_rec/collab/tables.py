"""A trained collaborative model as the frozen tables that later steps score with.

Shapes: U users, I items, B rows, H history length, k dimension. Row 0 of every table is padding and stands for an
unknown user or item: zeros. Everything is float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from sella_rec.data.dataset import Split

# Rows scored at once: bounds memory at B x k floats.
_ROWS_A_PASS = 65536


class CollabTables(nn.Module):
    """A trained collaborative model as constants: buffers that move with `.to(device)`, nothing trainable.

    Args:
        user_vectors: [U + 1, k]; rows of users unseen in train are zero.
        item_vectors: [I + 1, k]; rows of items unseen in train are zero, so that their score is biases alone.
        user_bias: [U + 1].
        item_bias: [I + 1].
        global_bias: [].
        user_in_train: bool [U + 1].
        fold_in_scale: [], see `user_vectors_for`.
    """

    user_vectors: torch.Tensor
    item_vectors: torch.Tensor
    user_bias: torch.Tensor
    item_bias: torch.Tensor
    global_bias: torch.Tensor
    user_in_train: torch.Tensor
    fold_in_scale: torch.Tensor

    def __init__(
        self,
        user_vectors: torch.Tensor,
        item_vectors: torch.Tensor,
        user_bias: torch.Tensor,
        item_bias: torch.Tensor,
        global_bias: torch.Tensor,
        user_in_train: torch.Tensor,
        fold_in_scale: torch.Tensor,
    ):
        super().__init__()
        self.register_buffer("user_vectors", user_vectors)
        self.register_buffer("item_vectors", item_vectors)
        self.register_buffer("user_bias", user_bias)
        self.register_buffer("item_bias", item_bias)
        self.register_buffer("global_bias", global_bias)
        self.register_buffer("user_in_train", user_in_train)
        self.register_buffer("fold_in_scale", fold_in_scale)

    def user_vectors_for(
        self,
        user: torch.Tensor,
        history: torch.Tensor,
        user_vectors: torch.Tensor | None = None,
        item_vectors: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """User vectors [B, k]; users unseen in train are folded in from their history as of each row.

        Args:
            user: int64 [B], 0 for an unknown user.
            history: int64 [B, H], liked items, padded with 0; without any, the vector is zero.
            user_vectors, item_vectors: stand in for the tables' own (fine-tuned copies); gradients flow to them.
        """
        user_vectors = self.user_vectors if user_vectors is None else user_vectors
        item_vectors = self.item_vectors if item_vectors is None else item_vectors
        folded = self.fold_in_scale * pool_history(history, item_vectors)
        return torch.where(self.user_in_train[user][:, None], F.embedding(user, user_vectors), folded)

    def score(self, user: torch.Tensor, item: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        """Logits [B] of P(like); user, item: int64 [B], history: int64 [B, H]."""
        product = (self.user_vectors_for(user, history) * self.item_vectors[item]).sum(-1)
        return product + self.user_bias[user] + self.item_bias[item] + self.global_bias

    @torch.no_grad()
    def score_split(self, split: Split) -> np.ndarray:
        """Logits of every row of a split, float32 [n]."""
        columns = [torch.from_numpy(column.copy()) for column in (split.user, split.item, split.history)]
        chunks = zip(*(column.split(_ROWS_A_PASS) for column in columns), strict=True)
        device = self.user_vectors.device
        return torch.cat([self.score(*(c.to(device) for c in chunk)) for chunk in chunks]).cpu().numpy()

    def save(self, folder: Path) -> None:
        """Write tables.safetensors into a new or existing folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: t.cpu().contiguous() for name, t in self.state_dict().items()}, folder / "tables.safetensors")

    @classmethod
    def load(cls, folder: str | Path) -> CollabTables:
        """Read what `save` wrote, on the CPU."""
        return cls(**load_file(Path(folder) / "tables.safetensors"))


def seen_rows(rows: int, index: np.ndarray) -> torch.Tensor:
    """Which of a table's rows an index [n] names, bool [rows]."""
    seen = torch.zeros(rows, dtype=torch.bool)
    seen[torch.from_numpy(np.unique(index))] = True
    return seen


def pool_history(history: torch.Tensor, item_vectors: torch.Tensor) -> torch.Tensor:
    """Mean item vector of each history, int64 [B, H] padded with 0; [B, k], zero where empty."""
    return F.embedding_bag(history, item_vectors, mode="mean", padding_idx=0)


def fit_fold_in_scale(user_vectors: torch.Tensor, item_vectors: torch.Tensor, train: Split) -> torch.Tensor:
    """The factor [] that brings pooled histories closest to the users' own vectors, by least squares over train users.

    Each user counts once, with the history at their newest train row.
    """
    newest = np.lexsort((train.timestamp, train.user))
    newest = newest[np.append(np.diff(train.user[newest]) > 0, True)]
    user = torch.from_numpy(train.user[newest]).to(user_vectors.device)
    pooled = pool_history(torch.from_numpy(train.history[newest]).to(user_vectors.device), item_vectors)
    return (pooled * user_vectors[user]).sum() / pooled.square().sum().clamp_min(torch.finfo(pooled.dtype).tiny)
