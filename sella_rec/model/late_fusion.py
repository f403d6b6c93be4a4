"""Late fusion: a logistic regression of the text-only logit and the collaborative score.

Two weights and an intercept on top of two finished models: the reference that SeLLa-Rec has to beat, or its tokens
carry nothing; and, on top of the LLM that stage 3 has trained, the residual. Fitted on valid rows, which neither model
has trained on; on train rows the collaborative score would look better than it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from sella_rec.config import EvaluateConfig
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.data.row_selection import evaluation_rows
from sella_rec.errors import UserError

VALID_LOGITS = "valid_logits.parquet"


class LateFusionError(UserError):
    """The rows drawn do not do for late fusion; the message says what to change."""


@dataclass(frozen=True)
class LateFusion:
    """logit = llm * the LLM's logit + collab * collaborative logit + intercept."""

    llm: float
    collab: float
    intercept: float

    def score(self, llm: np.ndarray, collab: np.ndarray) -> np.ndarray:
        """Logits float32 [n] from the two models' logits [n]."""
        fused: np.ndarray = self.llm * llm + self.collab * collab + self.intercept
        return fused.astype(np.float32)


def fit_late_fusion(label: np.ndarray, llm: np.ndarray, collab: np.ndarray) -> LateFusion:
    """Fit the three numbers without regularization.

    Args:
        label: [n] 0 or 1.
        llm, collab: logits [n].

    Raises:
        LateFusionError: all labels are the same.
    """
    check_both_classes(label)
    # in single precision, or stopped at scikit-learn's 1e-4, the weights depend on rounding in the logits
    logits = np.stack([llm, collab], axis=1).astype(np.float64)
    fitted = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(logits, label)
    weights = fitted.coef_[0]
    return LateFusion(float(weights[0]), float(weights[1]), float(fitted.intercept_[0]))


def check_both_classes(label: np.ndarray) -> None:
    """Check that late fusion can be fitted on rows with these labels [n].

    Raises:
        LateFusionError: all are the same.
    """
    if len(np.unique(label)) < 2:
        raise LateFusionError(
            f"late fusion cannot be fitted: the {len(label)} sampled valid rows have one class only; "
            "raise tune.valid_users and fuse.valid_users, or data.valid_fraction"
        )


def save_valid_logits(path: Path, rows: np.ndarray, logits: np.ndarray) -> None:
    """Write the text-only LLM's logits [n] of `rows` [n], indices into the valid split's evaluation rows."""
    pl.DataFrame({"row": rows, "logit": logits}).write_parquet(path)


def load_valid_logits(path: Path, data: PreparedData, config: EvaluateConfig) -> tuple[Split, np.ndarray]:
    """The valid rows that `save_valid_logits` was given, and their logits [n]."""
    saved = pl.read_parquet(path)
    return evaluation_rows(data.valid, config).take(saved["row"].to_numpy()), saved["logit"].to_numpy()
