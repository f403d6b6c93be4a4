"""Whether interactions since a model was trained are like those it was trained on.

The new window is compared with the last windows of the same length in the model's data, each measured against what was
known at its start. A measure has drifted if it has moved by more than the configured size, and by more than chance
explains. Chance is estimated by a permutation test over users (each with all their rows in a window), because the PSI
of a small window is large by chance, and rows of one user come in bursts: a test that treats rows as independent, as
those of drift libraries (evidently) do, finds drift in resamples of the same data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from components.check_drift.measures import (
    MEASURES,
    SHARES,
    Counts,
    NewInteractions,
    bin_labels,
    count,
    frequent_words,
    psi,
)
from sella_rec.config import RetrainConfig
from sella_rec.data.training_reference import Reference, iso

# Earlier windows that the new one is compared with: more are surer, but of older times.
_WINDOWS = 4
_RESAMPLES = 1999
# Users of either side that the test draws from: with so many, anything of note is far beyond chance.
_MAX_USERS = 10_000
# Numbers held at once by the test
_NUMBERS_A_BATCH = 4_000_000


@dataclass(frozen=True)
class DriftMeasure:
    """One measure, then and now.

    Attributes:
        before, now: a share of the rows; None for a distribution.
        moved: by how much: the difference of the shares, or the PSI.
        limit: size from which on it counts.
        p: how often chance alone moves it as far, not corrected for the number of measures.
        labels: of the bins.
        bins: their shares before and now.
    """

    before: float | None
    now: float | None
    moved: float
    limit: float
    p: float
    drifted: bool
    labels: list[str]
    bins: tuple[list[float], list[float]]


@dataclass(frozen=True)
class Comparison:
    """The new window against the reference; without newer rows there are no measures.

    Attributes:
        since: end of the reference, Unix seconds.
        rows, users: of the new window.
        seconds: length of the window, and of each that it was compared with.
    """

    since: int
    until: int
    seconds: int
    rows: int
    users: int
    measures: dict[str, DriftMeasure]

    @property
    def drifted(self) -> list[str]:
        return [name for name, measured in self.measures.items() if measured.drifted]

    def to_json(self) -> dict[str, Any]:
        measures = {name: asdict(measured) for name, measured in self.measures.items()}
        return asdict(self) | {"since": iso(self.since), "until": iso(self.until), "measures": measures}


def compare(
    reference: Reference, rows: pl.DataFrame, titles: pl.DataFrame, config: RetrainConfig, seed: int
) -> Comparison | None:
    """Compare the rows that are newer than the reference with it.

    The newest of them are taken where they span more than half the time of the reference, which then has only one
    window to compare them with.

    Args:
        rows: user_id, item_id, timestamp, label; those of the reference's time are left out here.
        titles: item_id, title; an item that is in neither this nor the reference counts as one without words.
        seed: of the permutations.

    Returns:
        None if the reference's rows are all of one second: they have no past to be measured against.
    """
    old = reference.rows
    begin, since = int(old["timestamp"].min()), int(old["timestamp"].max())  # type: ignore[arg-type]
    if begin == since:
        return None
    newer = rows.filter(pl.col("timestamp") > since)
    if newer.is_empty():
        return Comparison(since, since, 0, 0, 0, {})
    until = int(newer["timestamp"].max())  # type: ignore[arg-type]
    seconds = max(1, min(until - since, (since - begin) // 2))
    new = NewInteractions(newer.filter(pl.col("timestamp") > until - seconds), old)
    earlier = _earlier_windows(old, begin, since, seconds)
    titled = pl.concat([titles.select("item_id", "title"), reference.titles.select("item_id", "title")])
    titled = titled.unique("item_id", keep="first", maintain_order=True)
    vocabulary = frequent_words(earlier[-1].known, titled)
    now = count(new, titled, vocabulary)
    then = _join([count(window, titled, vocabulary) for window in earlier])
    chances, labels = _chances(then, now, np.random.default_rng(seed)), bin_labels(vocabulary)
    measures = {
        name: _measure(name, labels[name], then[name].sum(axis=0), now[name].sum(axis=0), chances[name], config)
        for name in MEASURES
    }
    users = new.rows["user_id"].n_unique()
    return Comparison(since, until, seconds, new.rows.height, users, measures)


def _earlier_windows(rows: pl.DataFrame, begin: int, end: int, seconds: int) -> list[NewInteractions]:
    """Up to four windows that have rows, newest first, each with something known before it."""
    ends = [end - index * seconds for index in range(_WINDOWS) if end - (index + 1) * seconds >= begin]
    time = pl.col("timestamp")
    windows = [
        NewInteractions(rows.filter((time > at - seconds) & (time <= at)), rows.filter(time <= at - seconds))
        for at in ends
    ]
    return [window for window in windows if not window.rows.is_empty() and not window.known.is_empty()]


def _join(counts: Sequence[Counts]) -> Counts:
    return {name: np.concatenate([part[name] for part in counts]) for name in MEASURES}


def _measure(
    name: str, labels: list[str], before: np.ndarray, now: np.ndarray, p: float, config: RetrainConfig
) -> DriftMeasure:
    """One measure from its counts [bins] over all users."""
    shares = [(counts / max(1.0, counts.sum())).round(6).tolist() for counts in (before, now)]
    is_share = name in SHARES
    moved = shares[1][1] - shares[0][1] if is_share else float(psi(before, now))
    limit = config.share if is_share else config.psi
    # fewer unseen users or items than usual are no reason to train again
    far = moved >= limit if name.startswith("unseen") else abs(moved) >= limit
    return DriftMeasure(
        before=shares[0][1] if is_share else None,
        now=shares[1][1] if is_share else None,
        moved=round(moved, 6),
        limit=limit,
        p=round(p, 6),
        # Bonferroni: one false alarm for all measures together
        drifted=far and p * len(MEASURES) <= config.false_alarms,
        labels=labels,
        bins=(shares[0], shares[1]),
    )


def _chances(then: Counts, now: Counts, random: np.random.Generator) -> dict[str, float]:
    """By measure, how often users split at random differ in PSI at least as much as `then` and `now` do.

    All measures of one split come from one matrix product: scipy's `permutation_test`, a measure at a time, takes ten
    times as long.
    """
    old, new = (_sample(np.concatenate([counts[name] for name in MEASURES], axis=1), random) for counts in (then, now))
    users, is_new = np.concatenate([old, new]), np.repeat([0.0, 1.0], [len(old), len(new)])
    total, edges = users.sum(axis=0), np.cumsum([then[name].shape[1] for name in MEASURES])[:-1]

    def differences(drawn: np.ndarray) -> np.ndarray:
        pairs = zip(np.split(total - drawn, edges, axis=-1), np.split(drawn, edges, axis=-1), strict=True)
        return np.stack([psi(*pair) for pair in pairs], axis=-1)

    # differences by rounding count as equal
    observed = differences(new.sum(axis=0)) - 1e-9
    size = max(1, _NUMBERS_A_BATCH // len(users))
    batches = [min(size, _RESAMPLES - done) for done in range(0, _RESAMPLES, size)]
    reached = sum(
        (differences(random.permuted(np.tile(is_new, (batch, 1)), axis=1) @ users) >= observed).sum(axis=0)
        for batch in batches
    )
    # the observed split is one of those that chance could have made
    return dict(zip(MEASURES, ((1 + reached) / (1 + _RESAMPLES)).tolist(), strict=True))


def _sample(users: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return users if len(users) <= _MAX_USERS else random.choice(users, _MAX_USERS, replace=False)
