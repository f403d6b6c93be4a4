"""Late fusion, the honest yardstick: a logistic regression of the text-only logit and the collaborative score.

Two weights and an intercept on top of two finished models. SeLLa-Rec has to beat it, or its tokens carry nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from components.core.dataset import Split


@dataclass(frozen=True)
class LateFusion:
    """logit = text_only * text-only logit + collab * collaborative logit + intercept."""

    text_only: float
    collab: float
    intercept: float

    def score(self, text_only: np.ndarray, collab: np.ndarray) -> np.ndarray:
        """Logits float32 [n] from the two models' logits [n]."""
        fused: np.ndarray = self.text_only * text_only + self.collab * collab + self.intercept
        return fused.astype(np.float32)


def fit_late_fusion(label: np.ndarray, text_only: np.ndarray, collab: np.ndarray) -> LateFusion:
    """Fit the three numbers without regularization.

    Args:
        label: [n] 0 or 1.
        text_only, collab: logits [n].

    Raises:
        ValueError: all labels are the same.
    """
    if len(np.unique(label)) < 2:
        raise ValueError(
            f"late fusion cannot be fitted: the {len(label)} valid rows drawn hold one class; "
            "raise evaluate.late_fusion_rows or data.valid_fraction"
        )
    fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(np.stack([text_only, collab], axis=1), label)
    weights = fitted.coef_[0]
    return LateFusion(float(weights[0]), float(weights[1]), float(fitted.intercept_[0]))


def sample_rows(split: Split, rows: int, seed: int) -> Split:
    """All rows of users drawn at random, at most `rows` in all, but one user at least."""
    users, counts = np.unique(split.user, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(users))
    fits = np.cumsum(counts[order]) <= rows
    fits[:1] = True
    return split.take(np.isin(split.user, users[order[fits]]))
