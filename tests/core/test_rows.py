"""Which rows are evaluated, against a loop over users."""

import numpy as np
import pytest

from components.core.config import EvaluateConfig
from components.core.rows import evaluation_rows, sample_users


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("limit", [None, 1, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_users_first_rows_with_the_history_they_should_have(random_split, share, limit, seed):
    split = random_split(seed=seed)
    found = evaluation_rows(split, EvaluateConfig(share_history=share, max_rows_per_user=limit))
    rows = [i for user in np.unique(split.user) for i in np.flatnonzero(split.user == user)[:limit]]
    assert [(u, i, t) for u, i, t in zip(found.user, found.item, found.timestamp, strict=True)] == [
        (split.user[i], split.item[i], split.timestamp[i]) for i in rows
    ]
    for row, i in enumerate(rows):
        first = np.flatnonzero(split.user == split.user[i])[0]
        assert np.array_equal(found.history[row], split.history[first if share else i])


def test_sampled_users_come_with_all_their_rows(random_split):
    split = random_split(users=20, seed=4)
    rows = sample_users(split, 7, seed=0)
    kept = np.unique(split.user[rows])
    assert len(kept) == 7
    assert np.array_equal(rows, np.flatnonzero(np.isin(split.user, kept)))
    assert set(rows) < set(sample_users(split, 9, seed=0))
    assert not np.array_equal(rows, sample_users(split, 7, seed=1))
    assert np.array_equal(sample_users(split, 100, seed=0), np.arange(len(split)))
