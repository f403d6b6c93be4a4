"""Candidates from the whole catalogue: exact top-k of the collaborative scores, by matrix products in blocks of users.

Shapes: B users, H history length, I items, k collaborative dimension, d hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from sella_rec.collab.tables import pool_history
from sella_rec.llm.soft_tokens import SoftTokens

# Scores held at once: 64 MiB in float32.
_SCORES_A_PASS = 2**24


@torch.inference_mode()
def retrieve(
    soft_tokens: SoftTokens, user: np.ndarray, history: np.ndarray, excluded: Sequence[np.ndarray], n_items: int, k: int
) -> list[np.ndarray]:
    """The `k` best items of each user, best first: int64 arrays, shorter where fewer are left.

    A user unseen in train is folded in from the history. If that gives nothing, because no item of the history was
    in train, items are ranked by the cosine of their semantics to the history's mean.

    Args:
        user: int64 [B], 0 for an unknown user.
        history: int64 [B, H], liked items, padded with 0.
        excluded: items to leave out, by user; int64 each.
        n_items: only items 1 to this are retrieved.
        k: how many.
    """
    device, size = soft_tokens.semantics.device, max(1, _SCORES_A_PASS // max(1, n_items))
    found: list[np.ndarray] = []
    for start in range(0, len(user), size):
        block = slice(start, start + size)
        users, histories = (torch.from_numpy(column[block]).to(device) for column in (user, history))
        scores = _scores(soft_tokens, users, histories, n_items)
        for row, items in enumerate(excluded[block]):
            scores[row, torch.from_numpy(items[items <= n_items] - 1).to(device)] = -torch.inf
        best, order = scores.topk(min(k, n_items), dim=1)
        found += [row[kept].cpu().numpy() + 1 for row, kept in zip(order, best.isfinite(), strict=True)]
    return found


def _scores(soft_tokens: SoftTokens, user: torch.Tensor, history: torch.Tensor, n_items: int) -> torch.Tensor:
    """Float32 [B, n_items]: collaborative scores less what is the same for all items of a user, or cosines."""
    tables, items = soft_tokens.tables, slice(1, n_items + 1)
    vectors = tables.user_vectors_for(user, history)
    scores = vectors @ tables.item_vectors[items].T + tables.item_bias[items]
    by_semantics = (~tables.user_in_train[user] & history.any(dim=1) & ~vectors.any(dim=1)).nonzero()[:, 0]
    if len(by_semantics):
        liked = F.normalize(pool_history(history[by_semantics], soft_tokens.semantics), dim=-1)
        scores[by_semantics] = liked @ F.normalize(soft_tokens.semantics[items], dim=-1).T
    return scores
