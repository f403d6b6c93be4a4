"""Ranking metrics of click prediction: AUC, UAUC, NDCG and MAP, vectorised over users.

Ties never depend on the order of rows: AUC counts a tied pair one half; NDCG gives tied rows their mean gain, as
`sklearn.metrics.ndcg_score` does (McSherry & Najork 2008, ECIR); average precision takes tied rows in one block, with
the precision at the block's end, as `sklearn.metrics.average_precision_score` does.

Shapes: n rows, U users with both classes. Arrays in: user (any integer ids), label 0/1, score (higher is better).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PerUser:
    """Metrics of each user having both classes, float64 [U], over that user's whole list.

    Attributes:
        user: [U], ascending ids.
    """

    user: np.ndarray
    auc: np.ndarray
    ndcg: np.ndarray
    map: np.ndarray


@dataclass(frozen=True)
class _Ranking:
    """Rows sorted by (user, score descending) and cut into blocks of equal (user, score); T blocks."""

    user: np.ndarray  # [n] index of the user, 0..
    label: np.ndarray  # float64 [n]
    position: np.ndarray  # [n] place in the user's list, 0..
    block: np.ndarray  # [n] index of the block, 0..

    def per_block(self, values: np.ndarray) -> np.ndarray:
        """Sums over blocks, [T]."""
        return np.bincount(self.block, values)

    def per_user(self, values: np.ndarray) -> np.ndarray:
        """Sums over users."""
        return np.bincount(self.user, values)


def auc(label: np.ndarray, score: np.ndarray) -> float | None:
    """Share of (liked, disliked) pairs ranked rightly, a tie counting one half; None without both classes.

    Raises:
        ValueError: a score is NaN.
    """
    per_user = per_user_metrics(np.zeros(len(label), dtype=np.int64), label, score)
    return float(per_user.auc[0]) if len(per_user.auc) else None


def per_user_metrics(user: np.ndarray, label: np.ndarray, score: np.ndarray) -> PerUser:
    """AUC, NDCG and average precision of each user's own list; users without both classes are left out.

    Raises:
        ValueError: a score is NaN.
    """
    if np.isnan(score).any():
        raise ValueError(f"{np.isnan(score).sum()} of {len(score)} scores are NaN: the model that made them is broken")
    ids, index = np.unique(user, return_inverse=True)
    positives = np.bincount(index, label, minlength=len(ids))
    mixed = (positives > 0) & (positives < np.bincount(index, minlength=len(ids)))
    kept = mixed[index]
    if not kept.any():
        none = np.zeros(0)
        return PerUser(ids[mixed], none, none, none)
    renumbered = np.cumsum(mixed) - 1
    ranking = _rank(renumbered[index[kept]], label[kept].astype(np.float64), score[kept])
    return PerUser(ids[mixed], _auc(ranking), _ndcg(ranking), _average_precision(ranking))


def evaluate_slice(user: np.ndarray, label: np.ndarray, score: np.ndarray) -> dict[str, float | None]:
    """All metrics of a slice of rows.

    Returns:
        auc over all rows; uauc, ndcg, map: means over the users having both classes; rows; users: their number.
        A metric is None where the slice has no rows of both classes to tell apart.

    Raises:
        ValueError: a score is NaN.
    """
    per_user = per_user_metrics(user, label, score)
    means = {name: _mean(getattr(per_user, name)) for name in ("auc", "ndcg", "map")}
    return {
        "auc": auc(label, score),
        "uauc": means["auc"],
        "ndcg": means["ndcg"],
        "map": means["map"],
        "rows": len(label),
        "users": len(per_user.user),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _rank(user: np.ndarray, label: np.ndarray, score: np.ndarray) -> _Ranking:
    order = np.lexsort((-score, user))
    user, label, score = user[order], label[order], score[order]
    new_user = np.diff(user, prepend=-1) != 0
    starts = np.flatnonzero(new_user)
    new_block = new_user | np.append(True, score[1:] != score[:-1])
    return _Ranking(user, label, np.arange(len(user)) - starts[user], np.cumsum(new_block) - 1)


def _auc(ranking: _Ranking) -> np.ndarray:
    """Mann-Whitney: each positive has as many negatives below it as there are, less those above, ties half."""
    negative = 1 - ranking.label
    negatives, positives = ranking.per_user(negative), ranking.per_user(ranking.label)
    tied = ranking.per_block(negative)[ranking.block]
    up_to_block = np.cumsum(ranking.per_block(negative))[ranking.block]
    users_before = (np.cumsum(negatives) - negatives)[ranking.user]
    below = negatives[ranking.user] - (up_to_block - users_before)
    result: np.ndarray = ranking.per_user(ranking.label * (below + tied / 2)) / (positives * negatives)
    return result


def _ndcg(ranking: _Ranking) -> np.ndarray:
    discount = 1 / np.log2(ranking.position + 2.0)
    gain = ranking.per_block(ranking.label) / ranking.per_block(np.ones_like(discount))
    positives = ranking.per_user(ranking.label)
    ideal = ranking.per_user(discount * (ranking.position < positives[ranking.user]))
    result: np.ndarray = ranking.per_user(gain[ranking.block] * discount) / ideal
    return result


def _average_precision(ranking: _Ranking) -> np.ndarray:
    positives = ranking.per_user(ranking.label)
    found_before = (np.cumsum(positives) - positives)[ranking.user]
    found = np.cumsum(ranking.per_block(ranking.label))[ranking.block] - found_before
    block_end = np.cumsum(np.bincount(ranking.block))[ranking.block] - 1
    listed = ranking.position + (block_end - np.arange(len(ranking.user))) + 1
    result: np.ndarray = ranking.per_user(ranking.label * found / listed) / positives
    return result
