"""The bundle away from where it was made: same scores, recommendations, and clear words where it is not one."""

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from sella_rec.data.dataset import PreparedData, Split
from sella_rec.llm.soft_tokens import SoftTokens
from sella_rec.model.bundle import BundleError, load_bundle


@pytest.fixture(scope="module")
def bundle(fused):
    return load_bundle(fused, "cpu")


def test_a_bundle_alone_gives_the_same_scores(
    tiny_config, fuse_inputs, genre_data, bundle, tmp_path_factory, monkeypatch
):
    from components.fuse.step import fuse
    from sella_rec.tracking.tracker import Tracker

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
    with pytest.raises(BundleError, match="format 99; this version reads 2: train the model again"):
        load_bundle(folder)


def test_versions_are_noted(fused):
    import torch

    noted = json.loads((fused / "bundle.json").read_text())["versions"]
    assert noted["torch"] == torch.__version__
    assert set(noted) >= {"transformers", "peft", "safetensors"}


def newcomer(bundle, item):
    """The bundle as if its `item` (index) had not been in train: semantics are all that is known of it."""
    state = {name: tensor.clone() for name, tensor in bundle.soft_tokens.state_dict().items()}
    for name in ("item_vectors", "tables.item_vectors"):
        state[name][item] = 0
    state["tables.item_bias"][item] = state["semantics"][item] @ state["semantic_bias"]
    return replace(bundle, soft_tokens=SoftTokens.from_state(state))


def test_a_new_item_is_judged_as_one_of_the_catalogue_that_was_not_in_train(bundle, genre_data):
    test, item, arms = PreparedData(genre_data).test, 7, ("sella", "text_only", "collab")
    assert bundle.soft_tokens.semantic_bias.any()
    titles = pl.DataFrame({"item_id": [None, "new"], "title": ["Candy Moon", bundle.items["title"][item - 1]]})
    longer = bundle.with_new_items(titles)
    asked, history = np.full(len(test), item), np.where(test.history == 3, item, test.history)
    moved = np.where(history == item, len(bundle.items) + 2, history)
    for arm in arms:
        expected = newcomer(bundle, item).score(replace(test, item=asked, history=history), arm)
        found = longer.score(replace(test, item=np.full(len(test), len(bundle.items) + 2), history=moved), arm)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(longer.score(test, arm), bundle.score(test, arm), atol=1e-6)
    assert longer.items.tail(2)["item_id"].to_list() == [None, "new"]
    assert longer.items.height == bundle.items.height + 2
    assert len(bundle.soft_tokens.semantics) == bundle.items.height + 1


def test_another_data_sets_rows_are_adopted_by_ids(bundle, genre_data, tmp_path):
    """The same rows under other indices, user 3 and item 9 under ids that the model has never seen."""
    data = PreparedData(genre_data)
    draw, other = np.random.default_rng(0), shutil.copytree(genre_data, tmp_path / "other")
    data.users.with_columns(pl.col("user_id").replace(3, 3000))[draw.permutation(data.n_users)].write_parquet(
        other / "users.parquet"
    )
    data.items.with_columns(pl.col("item_id").replace(9, 9000))[draw.permutation(data.n_items)].write_parquet(
        other / "items.parquet"
    )
    rows = pl.read_parquet(genre_data / "test.parquet")
    rows = rows.with_columns(pl.col("user_id").replace(3, 3000), pl.col("item_id").replace(9, 9000))
    rows.with_columns(pl.col("history").list.eval(pl.element().replace(9, 9000))).write_parquet(other / "test.parquet")

    adopting, adopted = bundle.reindex(PreparedData(other), PreparedData(other).test)
    new = bundle.items.height + 1
    assert adopting.items.row(new - 1) == ("9000", bundle.items["title"][8], False)
    place = np.arange(new)
    place[9] = new
    np.testing.assert_array_equal(adopted.item, place[data.test.item])
    np.testing.assert_array_equal(adopted.history, place[data.test.history])
    np.testing.assert_array_equal(adopted.user, np.where(data.test.user == 3, 0, data.test.user))
    np.testing.assert_array_equal(adopted.label, data.test.label)
    known = (data.test.user != 3) & ~((adopted.history == new).any(axis=1) | (adopted.item == new))
    assert 0 < known.sum() < len(known)
    np.testing.assert_allclose(adopting.score(adopted)[known], bundle.score(data.test)[known], atol=1e-5)


def test_its_own_rows_are_adopted_as_they_are(bundle, genre_data):
    data = PreparedData(genre_data)
    same, adopted = bundle.reindex(data, data.test)
    assert same is bundle
    for name, column in vars(data.test).items():
        np.testing.assert_array_equal(getattr(adopted, name), column)
