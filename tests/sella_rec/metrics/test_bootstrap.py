"""The user-level bootstrap against brute-force resampling, planted truth and exact invariants."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from sella_rec.metrics import bootstrap as module
from sella_rec.metrics.bootstrap import bootstrap
from sella_rec.metrics.ranking import evaluate_slice


def rows_of(draw: np.random.Generator, users: int, each: int = 12) -> tuple[np.ndarray, ...]:
    user = np.repeat(np.arange(users), each)
    label = (draw.random(len(user)) < 0.5).astype(int)
    return user, label, np.round(draw.normal(label, 1), 1)


def test_every_resample_equals_evaluating_the_repeated_rows():
    user, label, score = rows_of(np.random.default_rng(0), users=9, each=4)
    counts = np.random.default_rng(1).multinomial(9, np.full(9, 1 / 9), size=20)
    found = bootstrap(user, label, {"arm": score}, samples=20, seed=1).draws["arm"]
    for s, drawn in enumerate(counts):
        rows = np.concatenate([np.flatnonzero(user == u) for u, c in enumerate(drawn) for _ in range(c)])
        copies = np.concatenate([[f"{u}.{k}"] * 4 for u, c in enumerate(drawn) for k in range(c)])
        own = np.unique(copies, return_inverse=True)[1]
        assert found["auc"][s] == pytest.approx(roc_auc_score(label[rows], score[rows]))
        assert found["uauc"][s] == pytest.approx(evaluate_slice(own, label[rows], score[rows])["uauc"])


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    user, label, score = rows_of(np.random.default_rng(0), users=30)
    whole = bootstrap(user, label, {"arm": score}, samples=50, seed=3).draws["arm"]
    monkeypatch.setattr(module, "_WEIGHTS_A_CHUNK", 7 * len(user))
    parts = bootstrap(user, label, {"arm": score}, samples=50, seed=3).draws["arm"]
    for metric in ("auc", "uauc"):
        np.testing.assert_allclose(whole[metric], parts[metric], rtol=1e-12)


def test_intervals_cover_the_planted_truth():
    """95 % intervals over 200 data sets: AUC of unit-variance normals one apart is Phi(1 / sqrt 2)."""
    truth, hits = norm.cdf(1 / np.sqrt(2)), {"auc": 0, "uauc": 0}
    for seed in range(200):
        draw = np.random.default_rng(seed)
        user = np.repeat(np.arange(60), 8)
        label = np.tile([0, 1], 240)
        result = bootstrap(user, label, {"arm": draw.normal(label, 1)}, samples=200, seed=seed)
        for metric in hits:
            low, high = result.interval("arm", metric)
            hits[metric] += low <= truth <= high
    assert all(0.90 <= hit / 200 <= 0.99 for hit in hits.values()), hits


def test_users_are_drawn_whole():
    """Rows copied ten times within their user add no information: the interval must not shrink."""
    user, label, score = rows_of(np.random.default_rng(5), users=40)
    once = bootstrap(user, label, {"arm": score}, samples=400, seed=0).interval("arm", "auc")
    tenfold = bootstrap(*(np.repeat(a, 10) for a in (user, label)), {"arm": np.repeat(score, 10)}, samples=400, seed=0)
    assert tenfold.interval("arm", "auc") == pytest.approx(once)


def test_paired_difference_of_identical_arms_is_exactly_zero():
    user, label, score = rows_of(np.random.default_rng(2), users=30)
    result = bootstrap(user, label, {"a": score, "b": score.copy()}, samples=100, seed=0)
    assert result.difference("a", "b", "uauc") == (0.0, 0.0)
    assert result.difference("a", "b", "auc") == (0.0, 0.0)


def test_pairing_narrows_the_interval_of_correlated_arms():
    draw = np.random.default_rng(4)
    user, label, score = rows_of(draw, users=80)
    better = score + 0.3 * label
    result = bootstrap(user, label, {"a": better, "b": score}, samples=500, seed=0)
    low, high = result.difference("a", "b", "uauc")
    own = result.interval("a", "uauc")
    assert low > 0
    assert high - low < 0.5 * (own[1] - own[0])


def test_seed_decides_the_draws():
    user, label, score = rows_of(np.random.default_rng(6), users=20)
    intervals = [bootstrap(user, label, {"a": score}, 100, seed).interval("a", "auc") for seed in (0, 0, 1)]
    assert intervals[0] == intervals[1] != intervals[2]


@pytest.mark.parametrize("rows", [0, 6])
def test_slices_without_both_classes_have_no_interval(rows: int):
    result = bootstrap(np.arange(rows), np.ones(rows), {"a": np.arange(rows, dtype=float)}, samples=100, seed=0)
    assert result.interval("a", "auc") is None
    assert result.interval("a", "uauc") is None
