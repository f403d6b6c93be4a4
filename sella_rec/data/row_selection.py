"""Which rows of a split the LLM is asked about, with which history, and what it is to answer."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from sella_rec.config import EvaluateConfig
from sella_rec.data.dataset import Split


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


def shrink_labels(split: Split, share: float) -> Split:
    """Labels moved towards the mean label of their item: `(1 - share) * label + share * mean`, in [0, 1].

    The means are the split's own. Single ratings are noisy, and what an item's raters say on average is most of what a
    small LLM learns from them.
    """
    _, of_row = np.unique(split.item, return_inverse=True)
    mean = (np.bincount(of_row, split.label) / np.bincount(of_row))[of_row]
    return replace(split, label=((1 - share) * split.label + share * mean).astype(np.float32))


def title_only_rows(split: Split, epochs: float, seed: int) -> Split:
    """Rows that ask about a title and say nothing of the user: no history, and for label the mean of the item's labels.

    Cross-entropy is least where that mean is answered, with or without the noise of single labels.

    Returns:
        The rows in random order, as often as `epochs` says; all of one user, so that any share a packed row.
    """
    random = np.random.default_rng(seed)
    orders = [random.permutation(len(split)) for _ in range(math.ceil(epochs))]
    alone = replace(shrink_labels(split, 1.0), history=np.zeros_like(split.history), user=np.ones_like(split.user))
    return alone.take(np.concatenate(orders)[: max(1, round(epochs * len(split)))])
