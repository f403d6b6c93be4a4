"""Which rows are evaluated, against a loop over users."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from sella_rec.config import EvaluateConfig
from sella_rec.data.row_selection import evaluation_rows, sample_users, shrink_labels, title_only_rows


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


def test_labels_move_towards_the_mean_of_their_item(random_split):
    split = random_split(seed=5).take(np.arange(4))
    split.item[:], split.label[:] = [7, 3, 7, 7], [1, 1, 0, 0]
    assert shrink_labels(split, 0.6).label == pytest.approx([0.4 + 0.2, 1, 0.2, 0.2])
    assert np.array_equal(shrink_labels(split, 0.0).label, split.label)


@pytest.mark.parametrize("epochs", [0.5, 1, 2.25])
def test_titles_alone_say_nothing_of_the_user_and_have_their_mean_label(random_split, epochs):
    split = random_split(users=15, seed=6)
    alone = title_only_rows(split, epochs, seed=0)
    assert len(alone) == round(epochs * len(split))
    assert not alone.history.any()
    assert alone.history.shape[1:] == split.history.shape[1:]
    assert len(np.unique(alone.user)) == 1
    means = pl.DataFrame({"item": split.item, "label": split.label}).group_by("item").agg(pl.col("label").mean())
    mean_of = dict(means.iter_rows())
    assert alone.label == pytest.approx([mean_of[item] for item in alone.item])
    # every row as often as every other, give or take the last epoch's part
    seen, there = (Counter(zip(s.item.tolist(), s.timestamp.tolist(), strict=True)) for s in (alone, split))
    assert all(int(epochs) * n <= seen[row] <= np.ceil(epochs) * n for row, n in there.items())
    assert not np.array_equal(alone.item, title_only_rows(split, epochs, seed=1).item)
