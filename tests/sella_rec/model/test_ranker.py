"""Questions to a bundle: known and new users, known and new items, given and open candidates."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from sella_rec.data.dataset import PreparedData, Split
from sella_rec.model.bundle import load_bundle
from sella_rec.model.ranker import Ranker, Request, RequestError


@pytest.fixture(scope="module")
def bundle(fused):
    return load_bundle(fused, "cpu")


@pytest.fixture(scope="module")
def ranker(bundle):
    return Ranker(bundle)


@pytest.fixture(scope="module")
def rated(genre_data):
    rows = pl.concat([pl.read_parquet(genre_data / f"{name}.parquet") for name in ("train", "valid", "test")])
    return rows.sort("timestamp", maintain_order=True).cast({"user_id": pl.String, "item_id": pl.String})


def score(bundle, user, history, items, arm="sella"):
    """P(like) of items for one user, straight from the bundle; all by index."""
    n = len(items)
    zeros = np.zeros(n, dtype=np.int64)
    history = np.tile(np.array(history or [0]), (n, 1))
    rows = Split(np.full(n, user), np.array(items), zeros.astype(np.float32), zeros, history, zeros.astype(bool))
    return 1 / (1 + np.exp(-bundle.score(rows, arm)))


def places(bundle, ids):
    return [bundle.items["item_id"].to_list().index(item) + 1 for item in ids]


@pytest.mark.parametrize("arm", ["sella", "text_only", "collab"])
def test_given_candidates_keep_their_order(ranker, bundle, rated, tiny_config, arm):
    liked = rated.filter((pl.col("user_id") == "5") & (pl.col("label") == 1))["item_id"]
    history = places(bundle, liked.tail(tiny_config.data.history_length).to_list())
    asked = ("80", "1", "33", "2")
    (found,) = ranker.rank([Request("5", candidates=asked)], arm=arm)
    assert found.item_ids == list(asked)
    assert found.titles == [bundle.items["title"][i - 1] for i in places(bundle, asked)]
    user = bundle.users["user_id"].to_list().index("5") + 1
    np.testing.assert_allclose(found.scores, score(bundle, user, history, places(bundle, asked), arm), atol=1e-5)
    assert found.scores.dtype == np.float32
    assert found.ranks.dtype == np.int64
    assert [asked[i] for i in np.argsort(found.ranks)] == [asked[i] for i in np.argsort(-found.scores)]
    assert sorted(found.ranks) == [1, 2, 3, 4]


def test_open_candidates_are_the_crowds_ranked_by_the_llm(ranker, bundle, rated):
    requests, catalogue = [Request(user) for user in ("1", "17", "40")], set(bundle.items["item_id"])
    for request, found in zip(requests, ranker.rank(requests, top_n=3, retrieve=8), strict=True):
        seen = rated.filter(pl.col("user_id") == request.user_id)["item_id"]
        unseen = sorted(catalogue - set(seen))
        (crowd,) = ranker.rank([replace(request, candidates=tuple(unseen))], arm="collab")
        (judged,) = ranker.rank([replace(request, candidates=tuple(unseen[i] for i in np.argsort(crowd.ranks)[:8]))])
        best = np.argsort(judged.ranks)[:3]
        assert found.item_ids == [judged.item_ids[i] for i in best]
        np.testing.assert_allclose(found.scores, judged.scores[best], atol=1e-5)
        assert found.ranks.tolist() == [1, 2, 3]


def test_at_least_as_many_are_retrieved_as_are_wanted(ranker):
    (found,) = ranker.rank([Request("3")], top_n=5, retrieve=2)
    assert len(found.item_ids) == 5


@pytest.mark.parametrize("arm", ["text_only", "collab"])
def test_other_arms_recommend_too(ranker, arm):
    (found,) = ranker.rank([Request("3")], top_n=4, retrieve=20, arm=arm)
    (again,) = ranker.rank([Request("3", candidates=tuple(found.item_ids))], arm=arm)
    np.testing.assert_allclose(found.scores, again.scores, atol=1e-5)
    assert (np.diff(found.scores) <= 0).all()


def test_somebody_new_is_judged_by_the_history(ranker, bundle):
    titles = bundle.items["title"]
    asked = Request(None, ("4", "8", "12"), ("1", "2", "3"))
    (found,) = ranker.rank([asked])
    np.testing.assert_allclose(found.scores, score(bundle, 0, [4, 8, 12], [1, 2, 3]), atol=1e-5)
    for same in (replace(asked, user_id="nobody"), replace(asked, history=("4", titles[7].upper() + " ", "12"))):
        if titles.to_list().count(titles[7]) == 1 or same.user_id:
            np.testing.assert_allclose(ranker.rank([same])[0].scores, found.scores, atol=1e-6)
    (other,) = ranker.rank([replace(asked, history=("1", "5", "9"))])
    assert np.abs(other.scores - found.scores).max() > 1e-3
    (open_,) = ranker.rank([Request(history=asked.history)], top_n=80)
    assert set(open_.item_ids) == set(bundle.items["item_id"]) - set(asked.history)


def test_a_given_history_replaces_the_known_one_and_keeps_its_newest(ranker, bundle, tiny_config):
    length = tiny_config.data.history_length
    ids = tuple(str(i) for i in range(1, length + 6))
    user = bundle.users["user_id"].to_list().index("5") + 1
    (found,) = ranker.rank([Request("5", ids, ("70", "71"))])
    expected = score(bundle, user, places(bundle, ids[-length:]), places(bundle, ("70", "71")))
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)


def test_nothing_known_is_an_empty_history(ranker, bundle):
    (found,) = ranker.rank([Request(candidates=("1", "2"))])
    np.testing.assert_allclose(found.scores, score(bundle, 0, [], [1, 2]), atol=1e-5)
    assert len(ranker.rank([Request("nobody")], top_n=7)[0].titles) == 7


def test_titles_nobody_knows(ranker, bundle):
    new = "Galaxy Wedding Vault 3"
    asked = Request("2", candidates=("1", new))
    (found,) = ranker.rank([asked])
    assert found.item_ids == ["1", None]
    assert found.titles[1] == new
    longer = bundle.with_new_items(pl.DataFrame({"item_id": [None], "title": [new]}))
    (expected,) = Ranker(longer).rank([replace(asked, candidates=("1", longer.items["title"][-1]))])
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    (alone,) = ranker.rank([replace(asked, candidates=("1",))])
    np.testing.assert_allclose(alone.scores, found.scores[:1], atol=1e-5)
    # in a history, too, and never recommended
    liked, other = ranker.rank([Request(history=(new, "Rose Heart 9")), Request(history=("Heist Alibi 9",))], top_n=80)
    assert set(liked.item_ids) == set(other.item_ids) == set(bundle.items["item_id"])
    assert ranker.bundle.items.height == bundle.items.height


def test_of_items_with_one_title_the_first_in_train_is_meant(bundle):
    items = bundle.items.with_columns(
        title=pl.when(pl.col("item_id").is_in(["5", "6", "7"])).then(pl.lit("Twice")).otherwise("title"),
        in_train=pl.col("item_id") != "5",
    )
    (found,) = Ranker(replace(bundle, items=items)).rank([Request("1", candidates=("twice", "5"))], arm="collab")
    assert found.item_ids == ["6", "5"]


def test_many_requests_are_answered_as_one_by_one(ranker):
    requests = [
        Request("1", candidates=("3", "4")),
        Request("2"),
        Request(history=("Somewhere Else", "7"), candidates=("Nowhere", "3", "Somewhere Else")),
        Request("1", candidates=("4",)),
    ]
    together = ranker.rank(requests, top_n=3, retrieve=10)
    for request, found in zip(requests, together, strict=True):
        (alone,) = ranker.rank([request], top_n=3, retrieve=10)
        assert (found.item_ids, found.titles) == (alone.item_ids, alone.titles)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
    assert ranker.rank([]) == []


def test_who_has_seen_everything_gets_nothing(bundle):
    everything = bundle.items["item_id"].to_list()
    users = bundle.users.with_columns(seen=pl.Series([everything] * bundle.users.height))
    (found,) = Ranker(replace(bundle, users=users)).rank([Request("2")])
    assert (found.item_ids, found.titles, len(found.scores), len(found.ranks)) == ([], [], 0, 0)


@pytest.mark.parametrize(
    ("request_", "settings", "message"),
    [
        (Request("1", candidates=()), {}, "candidates: empty"),
        (Request("1", candidates=("1", " ")), {}, r"candidates\[1\]: empty; give an item_id or a title"),
        (
            Request("1", candidates=("1", "4711")),
            {},
            r"candidates\[1\]: item_id '4711' is not known to this model \(80 are",
        ),
        (Request(history=("1", "2", "")), {}, r"history\[2\]: empty"),
        (Request("1"), {"top_n": 0}, r"top_n: must be at least 1 \(got 0\)"),
        (Request("1"), {"retrieve": -1}, r"retrieve: must be at least 1 \(got -1\)"),
    ],
)
def test_what_cannot_be_answered_is_named(ranker, request_, settings, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        ranker.rank([request_], **settings)
    if not settings:
        with pytest.raises(RequestError, match=f"^request 1: {message}"):
            ranker.rank([Request("1"), request_])


def test_rows_are_the_bundles_own(ranker, genre_data):
    data = PreparedData(genre_data)
    rows = ranker.rows([Request("7", candidates=("5", "9")), Request(history=("1",), candidates=("2",))])
    ids = data.items["item_id"].cast(pl.String)
    assert ids.gather(rows.item - 1).to_list() == ["5", "9", "2"]
    assert rows.user.tolist() == [data.users["user_id"].to_list().index(7) + 1] * 2 + [0]
    assert ids.gather(rows.history[2][:1] - 1).to_list() == ["1"]
    with pytest.raises(RequestError, match="'Elsewhere' is not in the catalogue"):
        ranker.rows([Request("7", candidates=("Elsewhere",))])
    with pytest.raises(RequestError, match="candidates: missing"):
        ranker.rows([Request("7")])
