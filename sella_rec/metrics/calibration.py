"""How far predicted probabilities are from what was liked."""

from __future__ import annotations

import numpy as np

_BINS = 10


def reliability(label: np.ndarray, probability: np.ndarray, bins: int = _BINS) -> tuple[np.ndarray, ...]:
    """Mean probability, share of likes and number of rows of each bin, [b] each, b <= `bins`.

    Bins hold equally many rows (scores crowd together, and equal widths would leave bins empty). Equal probabilities
    share a bin, so that the order of rows does not matter.
    """
    place = np.searchsorted(np.sort(probability), probability, side="left")
    index = np.unique(place * bins // len(place), return_inverse=True)[1]
    rows = np.bincount(index)
    return np.bincount(index, probability) / rows, np.bincount(index, label) / rows, rows


def calibration_error(label: np.ndarray, probability: np.ndarray, bins: int = _BINS) -> float:
    """Expected calibration error (Guo et al. 2017, ICML) over bins of equally many rows."""
    predicted, observed, rows = reliability(label, probability, bins)
    return float((np.abs(predicted - observed) * rows).sum() / rows.sum())
