"""Which rows of a split the LLM is asked about, and with which history."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from components.core.config import EvaluateConfig
from components.core.dataset import Split


def evaluation_rows(split: Split, config: EvaluateConfig) -> Split:
    """Rows to evaluate, the same for every arm.

    `max_rows_per_user` keeps each user's first rows in time; with `share_history` they all carry the history as of
    the first of them, so that one packed row serves a user. Neither shows a model anything of the future.
    """
    starts = np.flatnonzero(np.diff(split.user, prepend=0))
    first = np.repeat(starts, np.diff([*starts, len(split)]))
    if config.share_history:
        split = replace(split, history=split.history[first])
    if config.max_rows_per_user is None:
        return split
    return split.take(np.arange(len(split)) - first < config.max_rows_per_user)


def sample_users(split: Split, users: int, seed: int) -> np.ndarray:
    """Indices [n] of all rows of at most `users` users drawn at random; fewer users are a subset of more."""
    everyone = np.unique(split.user)
    chosen = np.random.default_rng(seed).permutation(everyone)[:users]
    return np.flatnonzero(np.isin(split.user, chosen))
