"""Alignment finds planted semantics without losing the collaborative score, and writes what later steps read."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from components.align_collab.model import AlignedModel, alignment
from components.align_collab.step import align_collab
from components.prepare_data.step import prepare_data
from components.train_collab.step import train_collab
from sella_rec.collab.models import create_model
from sella_rec.collab.tables import CollabTables
from sella_rec.config import AlignConfig, load_config
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.llm.projection import Projection
from sella_rec.tracking.tracker import Tracker

D = 24
SETTINGS = [
    "collab.fused_model=mf",
    "collab.dim=8",
    "collab.mf.learning_rate=2e-2",
    "collab.mf.weight_decay=1e-3",
    "collab.mf.batch_size=256",
    "collab.lightgcn.max_epochs=3",
    "align.hidden=64",
    "align.batch_size=256",
    "align.learning_rate=3e-3",
    "align.max_epochs=40",
]


@pytest.fixture(scope="module")
def inputs(small_ratings, tmp_path_factory):
    """Dataset and collaborative models of the small ratings, and semantics that are a linear map of MF's item vectors.

    The semantics carry what an LLM's hidden states do: one large direction common to all items.
    """
    root = tmp_path_factory.mktemp("align")
    sources = [f"data.{name}={small_ratings / name}.csv" for name in ("interactions", "items")]
    prepare_data(load_config(None, sources), root / "dataset", Tracker())
    train_collab(load_config(None, SETTINGS), root / "dataset", root / "collab", Tracker())
    items = CollabTables.load(root / "collab" / "mf" / "tables").item_vectors
    generator = torch.Generator().manual_seed(0)
    planted = items / items[1:].std() @ torch.randn(items.shape[1], D, generator=generator)
    planted = planted + 50 * torch.randn(D, generator=generator)
    planted[0] = 0
    (root / "semantics").mkdir()
    save_file({"semantics": planted}, root / "semantics" / "semantics.safetensors")
    return SimpleNamespace(dataset=root / "dataset", collab=root / "collab", semantics=root / "semantics")


def run(inputs, output, *overrides):
    config = load_config(None, [*SETTINGS, *overrides])
    align_collab(config, inputs.dataset, inputs.collab, inputs.semantics, output, Tracker())
    return json.loads((output / "metrics.json").read_text())


@pytest.mark.parametrize("loss", ["infonce", "rince"])
def test_planted_semantics_are_found_and_the_score_kept(inputs, tmp_path, loss):
    metrics = run(inputs, tmp_path / "aligned", f"align.loss={loss}")
    before, after = metrics["before"], metrics["after"]
    assert before["top1"] < 0.15
    assert after["top1"] > 0.7
    assert after["top10"] > 0.95
    assert after["cosine"] > before["cosine"] + 0.5
    assert after["valid_auc"] > before["valid_auc"] - 0.02


def test_output_is_what_was_measured(inputs, tmp_path):
    metrics = run(inputs, tmp_path / "aligned")
    data, tables = PreparedData(inputs.dataset), CollabTables.load(tmp_path / "aligned" / "tables")
    auc = roc_auc_score(data.valid.label, tables.score_split(data.valid))
    assert auc == pytest.approx(metrics["after"]["valid_auc"], abs=1e-6)
    assert metrics["valid_auc"] == metrics["after"]["valid_auc"]

    sizes = json.loads((tmp_path / "aligned" / "projection.json").read_text())
    assert sizes == {"dim": 8, "hidden": 64, "out": D}
    projection = Projection(**sizes)
    projection.load_state_dict(load_file(tmp_path / "aligned" / "projection.safetensors"))
    semantics = load_file(tmp_path / "aligned" / "semantics.safetensors")["semantics"]
    items = torch.from_numpy(np.unique(data.train.item))
    with torch.no_grad():
        projected = projection(tables.item_vectors[items])
    found = alignment(projected, semantics[items] - semantics[1:].mean(0), torch.arange(len(items)))
    assert found == pytest.approx({name: metrics["after"][name] for name in found}, abs=1e-5)

    curves = json.loads((tmp_path / "aligned" / "curves.json").read_text())
    epochs = len(curves["align_loss"]["value"])
    assert curves["align_loss"]["step"] == curves["collab_loss"]["step"] == list(range(1, epochs + 1))
    assert curves["top10"]["step"] == list(range(epochs + 1))
    kept = [a + t for a, t in zip(curves["valid_auc"]["value"], curves["top10"]["value"], strict=True)][1:]
    assert metrics["epochs"] == int(np.argmax(kept)) + 1


def test_semantics_are_copied_unless_trained(inputs, tmp_path):
    given = load_file(inputs.semantics / "semantics.safetensors")["semantics"]
    run(inputs, tmp_path / "fixed", "align.max_epochs=1")
    assert torch.equal(load_file(tmp_path / "fixed" / "semantics.safetensors")["semantics"], given)
    run(inputs, tmp_path / "trained", "align.max_epochs=1", "align.train_semantics=true")
    trained = load_file(tmp_path / "trained" / "semantics.safetensors")["semantics"]
    in_train = np.unique(PreparedData(inputs.dataset).train.item)
    assert (trained[in_train] != given[in_train]).any()
    assert trained[0].abs().sum() == 0
    torch.testing.assert_close(trained, given, atol=1.0, rtol=0)  # in the given frame: its mean is put back


def test_picture_shows_items_before_and_after(inputs, tmp_path):
    run(inputs, tmp_path / "aligned")
    points = pl.read_parquet(tmp_path / "aligned" / "alignment.parquet")
    assert points.columns == ["item_id", "title", "kind", "when", "x", "y"]
    sizes = points.group_by("kind", "when").len()["len"].to_list()
    n_items = len(np.unique(PreparedData(inputs.dataset).train.item))
    assert sizes == [n_items] * 4

    def distance(when):
        one, other = (
            points.filter(kind=kind, when=when).sort("item_id").select("x", "y").to_numpy()
            for kind in ("projected", "semantics")
        )
        return np.linalg.norm(one - other, axis=1).mean()

    assert distance("after") < 0.5 * distance("before")


def test_same_seed_same_bytes(inputs, tmp_path):
    for name in ("one", "two"):
        run(inputs, tmp_path / name, "align.max_epochs=2")
    for file in ("tables/tables.safetensors", "projection.safetensors", "alignment.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_lightgcn_can_feed(inputs, tmp_path):
    metrics = run(inputs, tmp_path / "aligned", "collab.fused_model=lightgcn", "align.max_epochs=10")
    assert metrics["after"]["cosine"] > metrics["before"]["cosine"]


def test_semantics_of_another_data_set_are_an_error(inputs, tmp_path):
    wrong = tmp_path / "semantics"
    wrong.mkdir()
    save_file({"semantics": torch.zeros(3, D)}, wrong / "semantics.safetensors")
    with pytest.raises(ValueError, match="3 rows, expected 81"):
        align_collab(load_config(None, SETTINGS), inputs.dataset, inputs.collab, wrong, tmp_path / "aligned", Tracker())


def test_alignment_by_hand():
    semantics = torch.eye(3)
    projected = torch.tensor([[2.0, 0.0, 0.0], [3.0, 4.0, 0.0], [0.0, 1.0, 1.0]])
    found = alignment(projected, semantics, torch.tensor([0, 1, 2]))
    # cosines of the pairs: 1, .8, 1/sqrt(2); the third is tied with item 2, which counts against it
    assert found["cosine"] == pytest.approx((1 + 0.8 + 2**-0.5) / 3)
    assert found["top1"] == pytest.approx(2 / 3)
    assert found["top10"] == 1.0
    assert alignment(projected, semantics, torch.tensor([2]))["top1"] == 0.0


def test_alignment_loss_takes_at_most_the_given_number_of_distinct_items(monkeypatch):
    n = 40
    train = Split(
        *(np.arange(1, n + 1),) * 2, np.ones(n, np.float32), np.arange(n), np.zeros((n, 1), np.int64), np.ones(n)
    )
    config = load_config(None, ["collab.dim=4", "align.align_items=16", "align.hidden=8"])
    collab = create_model("mf", config.collab, SimpleNamespace(n_users=n, n_items=n, train=train))
    model = AlignedModel(collab, torch.randn(n + 1, 6), config.align)
    taken = []
    monkeypatch.setattr(model, "alignment_loss", lambda vectors, items: taken.append(items) or torch.zeros(()))
    model.losses(torch.arange(1, n + 1), torch.arange(1, n + 1), torch.ones(n))
    model.losses(torch.arange(1, n + 1), torch.tensor([7, 9] * (n // 2)), torch.ones(n))
    assert len(taken[0]) == len(taken[0].unique()) == 16
    assert sorted(taken[1].tolist()) == [7, 9]


def test_semantics_judge_items_without_ratings(inputs):
    """Labels follow one direction of the semantics; half of the items have no rating, and only those to go by."""
    data = PreparedData(inputs.dataset)
    semantics = torch.randn(data.n_items + 1, 4, generator=torch.Generator().manual_seed(1))
    semantics[0] = 0
    taste = semantics[:, 0].numpy()
    unrated = np.arange(data.n_items + 1) % 2 == 0
    train = data.train.take(~unrated[data.train.item])
    train = replace(train, label=(taste[train.item] > 0).astype(np.float32))
    model = AlignedModel(create_model("mf", load_config(None, SETTINGS).collab, data), semantics, AlignConfig())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    user, item, label = (torch.from_numpy(column) for column in (train.user, train.item, train.label))
    for _ in range(100):
        optimizer.zero_grad()
        model.losses(user, item, label)[0].backward()
        optimizer.step()
    bias = model.tables(train).item_bias.numpy()
    assert bias[0] == 0
    assert roc_auc_score(taste[1:][unrated[1:]] > 0, bias[1:][unrated[1:]]) > 0.9


def test_without_semantic_bias_the_tables_are_the_collaborative_ones(inputs, tmp_path):
    run(inputs, tmp_path / "with")
    run(inputs, tmp_path / "without", "align.semantic_bias=false")
    data = PreparedData(inputs.dataset)
    unseen = ~torch.isin(torch.arange(data.n_items + 1), torch.from_numpy(data.train.item.copy()))
    with_bias, without = (CollabTables.load(tmp_path / name / "tables").item_bias for name in ("with", "without"))
    assert (without[unseen] == 0).all()
    assert (with_bias[1:] != without[1:]).any()
