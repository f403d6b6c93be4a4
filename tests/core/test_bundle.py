"""The bundle away from where it was made: same scores, recommendations, and clear words where it is not one."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from components.core.bundle import BundleError, load_bundle
from components.core.dataset import PreparedData, Split


@pytest.fixture(scope="module")
def bundle(fused):
    return load_bundle(fused, "cpu")


@pytest.fixture(scope="module")
def rated(genre_data):
    return pl.concat([pl.read_parquet(genre_data / f"{name}.parquet") for name in ("train", "valid", "test")])


def test_a_bundle_alone_gives_the_same_scores(
    tiny_config, fuse_inputs, genre_data, bundle, tmp_path_factory, monkeypatch
):
    from components.core.tracking import Tracker
    from components.fuse.step import fuse

    test = PreparedData(genre_data).test
    expected = {arm: bundle.score(test, arm) for arm in ("sella", "text_only")}
    assert np.abs(expected["sella"] - expected["text_only"]).max() > 0.05

    made, elsewhere = (tmp_path_factory.mktemp(name) for name in ("made", "elsewhere"))
    inputs = type(fuse_inputs)(**{name: made / name for name in vars(fuse_inputs)})
    for name, folder in vars(fuse_inputs).items():
        shutil.copytree(folder, made / name)
    fuse(tiny_config, inputs, made / "bundle", made / "checkpoints", Tracker())
    shutil.copytree(made / "bundle", elsewhere / "bundle")
    shutil.rmtree(made)
    monkeypatch.chdir(elsewhere)
    alone = load_bundle("bundle", "cpu")
    for arm, scores in expected.items():
        np.testing.assert_allclose(alone.score(test, arm), scores, atol=1e-5, rtol=0)


def test_recommends_unseen_titles_best_first(bundle, rated):
    for user in (1, 17, 40):
        found = bundle.recommend(user, n=12)
        assert found.columns == ["item_id", "title", "score"]
        assert len(found) == 12
        assert not set(found["item_id"]) & set(rated.filter(pl.col("user_id") == user)["item_id"])
        assert found["score"].is_sorted(descending=True)
        assert found["score"].is_between(0, 1).all()
        titles = dict(bundle.items.select("item_id", "title").iter_rows())
        assert [titles[item] for item in found["item_id"]] == found["title"].to_list()
        scores = 1 / (1 + np.exp(-bundle.score(bundle.pairs(user, found["item_id"].to_list()))))
        np.testing.assert_allclose(found["score"], scores, atol=1e-5)
        np.testing.assert_allclose(bundle.probabilities(user, found["item_id"].to_list()), scores, atol=1e-5)


def test_recommends_from_the_candidates_of_the_collaborative_score(bundle, rated):
    few = bundle.recommend(3, n=5, candidates=5)
    assert len(bundle.recommend(3, n=5, candidates=2)) == len(few) == 5
    unseen = sorted(set(bundle.items["item_id"]) - set(rated.filter(pl.col("user_id") == 3)["item_id"]))
    collab = bundle.soft_tokens.tables.score_split(bundle.pairs(3, unseen))
    assert set(few["item_id"]) == {unseen[i] for i in np.argsort(-collab)[:5]}


def test_pairs_ask_with_the_newest_likes(bundle, rated, tiny_config):
    liked = rated.filter((pl.col("user_id") == 5) & (pl.col("label") == 1)).sort("timestamp")["item_id"]
    split = bundle.pairs(5, [80, 1])
    ids = bundle.items["item_id"].to_list()
    assert [ids[i - 1] for i in split.history[0]] == liked.tail(tiny_config.data.history_length).to_list()
    assert [ids[i - 1] for i in split.item] == [80, 1]
    assert (split.history[0] == split.history[1]).all()
    assert bundle.users["user_id"][int(split.user[0]) - 1] == 5


def test_ids_given_as_text_are_understood(bundle):
    assert bundle.recommend("7", n=3).equals(bundle.recommend(7, n=3))


def test_who_has_seen_everything_gets_nothing(bundle):
    everything = bundle.items["item_id"].to_list()
    users = bundle.users.with_columns(seen=pl.Series([everything] * bundle.users.height))
    assert type(bundle)(**{**vars(bundle), "users": users}).recommend(2).is_empty()


def test_who_liked_nothing_is_asked_without_a_history(bundle):
    users = bundle.users.with_columns(history=pl.Series([[]] * bundle.users.height, dtype=pl.List(pl.Int64)))
    newcomer = type(bundle)(**{**vars(bundle), "users": users})
    assert not newcomer.pairs(2, [1]).history.any()
    assert newcomer.recommend(2, n=3)["score"].is_finite().all()


@pytest.mark.parametrize("unknown", [999, "nobody", None])
def test_an_unknown_user_is_named(bundle, unknown):
    with pytest.raises(BundleError, match=f"user_id {unknown!r} is not known to this model"):
        bundle.recommend(unknown)


def test_an_unknown_item_is_named(bundle):
    with pytest.raises(BundleError, match="item_id 4711 is not known to this model"):
        bundle.pairs(1, [1, 4711])


def test_an_unknown_user_index_scores_from_the_history(bundle, genre_data):
    test = PreparedData(genre_data).test.take(np.arange(4))
    stranger = Split(**{**vars(test), "user": np.zeros(4, dtype=np.int64)})
    assert np.isfinite(bundle.score(stranger)).all()


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"versions": {}}'])
def test_what_is_no_bundle_is_an_error(tmp_path, content):
    if content is not None:
        (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match="is not a SeLLa-Rec bundle"):
        load_bundle(tmp_path)


def test_another_format_is_an_error(fused, tmp_path):
    folder = shutil.copytree(fused, tmp_path / "bundle")
    (folder / "bundle.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(BundleError, match="format 99; this version reads 1"):
        load_bundle(folder)


def test_versions_are_noted(fused):
    import torch

    noted = json.loads((fused / "bundle.json").read_text())["versions"]
    assert noted["torch"] == torch.__version__
    assert set(noted) >= {"transformers", "peft", "safetensors"}
