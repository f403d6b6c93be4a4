"""Exact top-k against scoring every pair and sorting."""

import numpy as np
import pytest
import torch

from sella_rec.data.dataset import Split
from sella_rec.model import retrieval
from sella_rec.model.retrieval import retrieve


def pairs(user, history, items):
    n = len(items)
    zeros = np.zeros(n, dtype=np.int64)
    return Split(np.full(n, user), items, zeros.astype(np.float32), zeros, np.tile(history, (n, 1)), zeros.astype(bool))


@pytest.mark.parametrize("scores_a_pass", [1, 30, 2**24])
def test_the_best_of_all_pairs_in_their_order(soft_tokens, monkeypatch, scores_a_pass):
    monkeypatch.setattr(retrieval, "_SCORES_A_PASS", scores_a_pass)
    draw = np.random.default_rng(0)
    # unknown, every user of the catalogue (the last one unseen in train), and again
    users = np.array([0, 1, 2, 3, 4, 5, 6, 0, 3])
    history = draw.integers(0, 11, (len(users), 4))
    excluded = [draw.choice(12, size, replace=False) + 1 for size in (0, 1, 2, 3, 4, 5, 11, 12, 0)]
    found = retrieve(soft_tokens, users, history, excluded, n_items=12, k=4)
    for user, liked, without, best in zip(users, history, excluded, found, strict=True):
        items = np.setdiff1d(np.arange(1, 13), without)
        scores = soft_tokens.tables.score_split(pairs(user, liked, items)) if len(items) else np.zeros(0)
        assert best.tolist() == items[np.argsort(-scores)][:4].tolist()


def test_only_items_of_the_catalogue_are_retrieved(soft_tokens):
    users, history = np.array([1, 0]), np.array([[1, 2], [3, 0]])
    found = retrieve(soft_tokens, users, history, [np.array([12, 3]), np.array([], dtype=np.int64)], n_items=10, k=99)
    assert set(found[0]) == set(range(1, 11)) - {3}
    assert set(found[1]) == set(range(1, 11))


def test_who_liked_only_items_unseen_in_train_gets_what_reads_alike(soft_tokens):
    # items 11 and 12 have no collaborative vector; user 6 was not in train
    users, nothing = np.array([6, 0, 1]), np.array([], dtype=np.int64)
    history = np.array([[11, 12], [12, 0], [11, 12]])
    found = retrieve(soft_tokens, users, history, [nothing] * 3, n_items=12, k=12)
    semantics = soft_tokens.semantics.double()
    for best, liked in zip(found[:2], ([11, 12], [12]), strict=True):
        cosine = torch.cosine_similarity(semantics[1:], semantics[liked].mean(dim=0)[None])
        assert best.tolist() == (cosine.argsort(descending=True) + 1).tolist()
    by_crowd = soft_tokens.tables.score_split(pairs(1, history[2], np.arange(1, 13)))
    assert found[2].tolist() == (np.argsort(-by_crowd) + 1).tolist()


def test_who_liked_nothing_gets_what_everybody_likes(soft_tokens):
    (found,) = retrieve(soft_tokens, np.array([0]), np.zeros((1, 3), dtype=np.int64), [np.array([], int)], 12, 12)
    assert found.tolist() == (soft_tokens.tables.item_bias[1:].argsort(descending=True) + 1).tolist()


def test_nobody_asks(soft_tokens):
    assert retrieve(soft_tokens, np.zeros(0, int), np.zeros((0, 1), int), [], 12, 3) == []
