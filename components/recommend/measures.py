"""Measures of the recommendations to all users together.

Shapes: I items, k recommendations a user, d width of the semantics. Items are rows of the catalogue, from 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Summary:
    """Accumulates users one at a time, so that a batch need not fit in memory; `measures` gives the figures.

    Args:
        popularity: int64 [I], how many users have rated each item.
        in_train: bool [I], whether it was trained on.
        semantics: float32 [I, d].
    """

    def __init__(self, popularity: np.ndarray, in_train: np.ndarray, semantics: np.ndarray):
        self._popularity, self._in_train = popularity, in_train
        lengths = np.linalg.norm(semantics, axis=1, keepdims=True)
        self._directions = semantics / np.maximum(lengths, np.finfo(np.float32).tiny)
        self._times = np.zeros(len(popularity), dtype=np.int64)
        self._users = 0
        self._popularities: list[float] = []
        self._own_popularities: list[float] = []
        self._diversities: list[float] = []

    def add(self, recommended: Sequence[int], rated: Sequence[int]) -> None:
        """Add a user with the items recommended, if any, and those rated before."""
        self._users += 1
        if not recommended:
            return
        items = np.array(recommended)
        self._times[items] += 1
        self._popularities.append(float(self._popularity[items].mean()))
        if rated:
            self._own_popularities.append(float(self._popularity[np.array(rated)].mean()))
        if len(items) > 1:
            self._diversities.append(intra_list_diversity(self._directions[items]))

    def measures(self) -> dict[str, float]:
        """The figures; means over no users are left out.

        Returns:
            users, recommendations: counts.
            user_coverage: share of users with a recommendation (Shani and Gunawardana 2011).
            catalogue_coverage: share of items recommended to at least one user (Ge et al. 2010).
            gini_index: of how often each item of the catalogue is recommended, see `gini_index`.
            cold_share: share of recommendations whose item was not in train.
            average_popularity: users who have rated an item, mean over a user's recommendations, then over users (ARP,
                Yin et al. 2012).
            popularity_lift: relative change of that against the items that the users have rated themselves
                (Abdollahpouri et al. 2020); above 0, recommended items are more popular than those the users rated.
            intra_list_diversity: mean over users, see `intra_list_diversity`.
        """
        total = int(self._times.sum())
        found: dict[str, float] = {
            "users": self._users,
            "recommendations": total,
            "user_coverage": len(self._popularities) / self._users,
            "catalogue_coverage": float((self._times > 0).mean()),
        }
        if total:
            found["gini_index"] = gini_index(self._times)
            found["cold_share"] = float(self._times[~self._in_train].sum()) / total
            found["average_popularity"] = float(np.mean(self._popularities))
        if self._own_popularities:
            found["popularity_lift"] = found["average_popularity"] / float(np.mean(self._own_popularities)) - 1
        if self._diversities:
            found["intra_list_diversity"] = float(np.mean(self._diversities))
        return found


def gini_index(times: np.ndarray) -> float:
    """Gini index of counts [I], not all 0: 0 where all are alike, 1 - 1 / I where one has everything.

    With the counts sorted, sum over i from 1 of (2 i - I - 1) x_i, over I sum x (Shani and Gunawardana 2011).
    """
    n = len(times)
    return float(((2 * np.arange(1, n + 1) - n - 1) * np.sort(times)).sum() / (n * times.sum()))


def intra_list_diversity(directions: np.ndarray) -> float:
    """Mean over all pairs of a list of one minus their cosine (Smyth and McClave 2001; Vargas and Castells 2011).

    Args:
        directions: float32 [k, d], k at least 2, rows of length 1 (or 0: unlike everything). The cosines of all pairs
            add up to (|sum v|^2 - sum |v|^2) / 2.
    """
    k, wide = len(directions), directions.astype(np.float64)
    cosines = (np.square(wide.sum(axis=0)).sum() - np.square(wide).sum()) / 2
    return float(1 - cosines / (k * (k - 1) / 2))
