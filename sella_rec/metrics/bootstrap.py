"""User-level bootstrap of AUC and UAUC: rows of one user depend on each other, so whole users are drawn.

Percentile intervals (Efron & Tibshirani 1993, chapter 13). All arms see the same resamples, which makes their
differences paired: what is hard for every arm alike cancels.

Shapes: n rows, U users, S resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sella_rec.metrics.ranking import per_user_metrics

Metric = Literal["auc", "uauc"]
Interval = tuple[float, float]

_LEVEL = 95  # per cent
# Row weights held at once, so that memory stays at some ten times 8 bytes of it
_WEIGHTS_A_CHUNK = 2_000_000


@dataclass(frozen=True)
class Bootstrap:
    """AUC and UAUC of every arm on every resample.

    Attributes:
        draws: by arm and metric, float64 [S]; NaN where a resample has not the classes that the metric needs.
    """

    draws: Mapping[str, Mapping[Metric, np.ndarray]]

    def interval(self, arm: str, metric: Metric) -> Interval | None:
        """95 % interval of an arm's metric; None where no resample has it."""
        return _percentiles(self.draws[arm][metric])

    def difference(self, arm: str, other: str, metric: Metric) -> Interval | None:
        """95 % interval of `arm` minus `other` on the same users; None where no resample has the metric."""
        return _percentiles(self.draws[arm][metric] - self.draws[other][metric])


def bootstrap(
    user: np.ndarray, label: np.ndarray, scores: Mapping[str, np.ndarray], samples: int, seed: int
) -> Bootstrap:
    """Draw as many users as there are, with replacement, `samples` times, and evaluate every arm on each draw.

    Args:
        user: [n] any integer ids.
        label: [n] 0 or 1.
        scores: by arm, [n], higher is better.
        samples: S.
        seed: of the draws.

    Raises:
        ValueError: a score is NaN.
    """
    ids, index = np.unique(user, return_inverse=True)
    own = {arm: _own_auc(ids, user, label, score) for arm, score in scores.items()}
    weighted = {arm: _WeightedAUC(label, score) for arm, score in scores.items()}
    draws: dict[str, dict[Metric, np.ndarray]] = {
        arm: {"auc": np.full(samples, np.nan), "uauc": np.full(samples, np.nan)} for arm in scores
    }
    random = np.random.default_rng(seed)
    chunk = max(1, _WEIGHTS_A_CHUNK // max(1, len(user)))
    for start in range(0, samples if len(ids) else 0, chunk):
        part = slice(start, min(start + chunk, samples))
        counts = random.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=part.stop - start).astype(float)
        row_weights = counts[:, index]
        for arm in scores:
            draws[arm]["auc"][part] = weighted[arm](row_weights)
            draws[arm]["uauc"][part] = _weighted_mean(own[arm], counts)
    return Bootstrap(draws)


def _own_auc(ids: np.ndarray, user: np.ndarray, label: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Each user's own AUC, float64 [U]; NaN for users without both classes."""
    per_user = per_user_metrics(user, label, score)
    own = np.full(len(ids), np.nan)
    own[np.searchsorted(ids, per_user.user)] = per_user.auc
    return own


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means over the values that are not NaN, [S], under weights [S, U]."""
    known = ~np.isnan(values)
    total = weights[:, known].sum(axis=1)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = weights[:, known] @ values[known] / total
    return means


class _WeightedAUC:
    """AUC of fixed rows under many weightings: the rows are sorted once.

    Weighted Mann-Whitney: sum over positives i and negatives j of w_i w_j ([s_i > s_j] + [s_i = s_j] / 2), over
    W_positive W_negative. Cut into blocks of equal score, it takes cumulative sums only.
    """

    def __init__(self, label: np.ndarray, score: np.ndarray):
        self._order = np.argsort(score, kind="stable")
        ordered = score[self._order]
        self._starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        self._label = label[self._order].astype(float)

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """AUC [S] under row weights [S, n]; NaN where a class has no weight."""
        ordered = weights[:, self._order]
        positive = np.add.reduceat(ordered * self._label, self._starts, axis=1)
        negative = np.add.reduceat(ordered * (1 - self._label), self._starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        with np.errstate(invalid="ignore"):
            result: np.ndarray = (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
        return result


def _percentiles(draws: np.ndarray) -> Interval | None:
    known = draws[~np.isnan(draws)]
    if not len(known):
        return None
    low, high = np.percentile(known, [(100 - _LEVEL) / 2, (100 + _LEVEL) / 2])
    return float(low), float(high)
