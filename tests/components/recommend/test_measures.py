"""The measures against hand computation, all pairs, and what has to hold for any batch."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from components.recommend.measures import Summary, gini_index

POPULARITY = np.array([10, 4, 1, 0])
IN_TRAIN = np.array([True, True, True, False])
SEMANTICS = np.array([[2, 0], [0, 3], [-1, 0], [1, 1]], dtype=np.float32)


def measures(*users: tuple[list[int], list[int]]) -> dict[str, float]:
    summary = Summary(POPULARITY, IN_TRAIN, SEMANTICS)
    for recommended, rated in users:
        summary.add(recommended, rated)
    return summary.measures()


def test_by_hand():
    found = measures(([0, 1], [2]), ([0, 3], [1, 2]), ([], [0, 1, 2, 3]))
    assert found == pytest.approx(
        {
            "users": 3,
            "recommendations": 4,
            "user_coverage": 2 / 3,
            "catalogue_coverage": 3 / 4,
            # times 2, 1, 0, 1: all pairs' differences 2*(1+2+1+1+0+1) = 12, over 2 n sum = 2 * 4 * 4
            "gini_index": 12 / 32,
            "cold_share": 1 / 4,
            "average_popularity": ((10 + 4) / 2 + (10 + 0) / 2) / 2,
            "popularity_lift": 6 / ((1 + 2.5) / 2) - 1,
            # at a right angle; at 45 degrees
            "intra_list_diversity": (1 + 1 - 1 / 2**0.5) / 2,
        }
    )


def test_a_mean_over_nobody_is_left_out():
    assert measures(([], [0])) == {"users": 1, "recommendations": 0, "user_coverage": 0, "catalogue_coverage": 0}
    assert not {"popularity_lift", "intra_list_diversity"} & set(measures(([2], [])))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(any))
def test_gini_is_the_mean_difference_of_all_pairs(times):
    pairs = [abs(a - b) for a in times for b in times]
    assert gini_index(np.array(times)) == pytest.approx(np.mean(pairs) / (2 * np.mean(times)))


def test_diversity_is_the_mean_over_all_pairs():
    draw = np.random.default_rng(0)
    semantics = draw.normal(size=(30, 6)).astype(np.float32)
    lists = [draw.choice(30, size=size, replace=False).tolist() for size in (2, 3, 7, 1)]
    summary = Summary(np.ones(30, dtype=int), np.ones(30, dtype=bool), semantics)
    for items in lists:
        summary.add(items, [0])
    cosine = cosine_similarity(semantics)
    expected = [np.mean([1 - cosine[a, b] for a, b in combinations(items, 2)]) for items in lists[:3]]
    assert summary.measures()["intra_list_diversity"] == pytest.approx(np.mean(expected), abs=1e-6)
