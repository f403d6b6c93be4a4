"""Metrics against scikit-learn, brute force and hand-computed cases, on random data with ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

from sella_rec.metrics.ranking import auc, evaluate_slice, per_user_metrics


def random_rows(seed: int, rows: int = 400, users: int = 25, levels: int = 7) -> tuple[np.ndarray, ...]:
    """Rows with few score levels, so that many tie, and users of very different activity."""
    draw = np.random.default_rng(seed)
    user = draw.geometric(1 / 8, rows).clip(max=users) * 3
    label = (draw.random(rows) < 0.4).astype(np.float32)
    score = (draw.integers(0, levels, rows) + label * draw.integers(0, 2, rows)).astype(np.float32)
    return user, label, score


def brute_force_auc(label: np.ndarray, score: np.ndarray) -> float:
    pairs = [(p > n) + 0.5 * (p == n) for p in score[label == 1] for n in score[label == 0]]
    return float(np.mean(pairs))


@pytest.mark.parametrize("seed", range(5))
def test_per_user_metrics_agree_with_scikit_learn(seed: int):
    user, label, score = random_rows(seed)
    found = per_user_metrics(user, label, score)
    expected_users = [u for u in np.unique(user) if 0 < label[user == u].mean() < 1]
    assert found.user.tolist() == expected_users
    for u, own_auc, ndcg, ap in zip(found.user, found.auc, found.ndcg, found.map, strict=True):
        y, s = label[user == u], score[user == u]
        assert own_auc == pytest.approx(roc_auc_score(y, s))
        assert own_auc == pytest.approx(brute_force_auc(y, s))
        assert ndcg == pytest.approx(ndcg_score(y[None], s[None]))
        assert ap == pytest.approx(average_precision_score(y, s))


@pytest.mark.parametrize("seed", range(3))
def test_slice_is_the_mean_over_users_with_both_classes(seed: int):
    user, label, score = random_rows(seed, rows=900, users=60, levels=100)
    found = evaluate_slice(user, label, score)
    mixed = [u for u in np.unique(user) if 0 < label[user == u].mean() < 1]
    per_user = [roc_auc_score(label[user == u], score[user == u]) for u in mixed]
    assert found["auc"] == pytest.approx(roc_auc_score(label, score))
    assert found["uauc"] == pytest.approx(np.mean(per_user))
    assert (found["rows"], found["users"]) == (900, len(mixed))


def test_hand_computed_list():
    # liked at places 1 and 3 of 3
    found = evaluate_slice(np.zeros(3, int), np.array([1, 0, 1]), np.array([3.0, 2.0, 1.0]))
    assert found["auc"] == found["uauc"] == pytest.approx(1 / 2)
    assert found["ndcg"] == pytest.approx((1 + 1 / 2) / (1 + 1 / np.log2(3)))
    assert found["map"] == pytest.approx((1 + 2 / 3) / 2)


def test_all_tied_is_chance():
    found = evaluate_slice(np.zeros(4, int), np.array([1, 0, 0, 1]), np.zeros(4))
    assert found["auc"] == found["uauc"] == found["map"] == pytest.approx(0.5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_order_of_rows_and_monotone_rescaling_change_nothing(seed: int):
    user, label, score = random_rows(seed, rows=120)
    shuffled = np.random.default_rng(seed).permutation(len(user))
    again = evaluate_slice(user[shuffled], label[shuffled], np.exp(score[shuffled] / 3))
    assert again == pytest.approx(evaluate_slice(user, label, score))


@pytest.mark.parametrize("label", [np.ones(4), np.zeros(4), np.zeros(0)])
def test_one_class_or_no_rows_give_none(label: np.ndarray):
    found = evaluate_slice(np.arange(len(label)) // 2, label, np.arange(len(label), dtype=np.float32))
    assert [found[name] for name in ("auc", "uauc", "ndcg", "map")] == [None] * 4
    assert (found["rows"], found["users"]) == (len(label), 0)


def test_auc_without_any_mixed_user():
    found = evaluate_slice(np.array([1, 1, 2]), np.array([1, 1, 0]), np.array([0.9, 0.1, 0.5]))
    assert found["auc"] == pytest.approx(0.5)
    assert found["uauc"] is None


def test_nan_scores_are_an_error():
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        auc(np.array([0, 1]), np.array([np.nan, 1.0]))
