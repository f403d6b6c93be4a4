"""Training recovers what was planted, repeats itself, and writes what later steps read."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from components.prepare_data.step import prepare_data
from components.train_collab.step import train_collab
from components.train_collab.training import fit
from sella_rec.collab.models import create_model, load_model
from sella_rec.collab.tables import CollabTables
from sella_rec.config import load_config
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.tracking.tracker import Tracker


class Recorder(Tracker):
    def __init__(self):
        self.logged, self.progressed = [], []

    def metrics(self, values, step=None):
        self.logged.append((step, values))

    def progress(self, done, total, note=""):
        self.progressed.append((done, total))


def planted(users=60, items=80, rank=3, seed=0):
    """Clicks drawn from a low-rank logit matrix: 70 % train, 10 % valid; returns data and the held-out cells."""
    draw = np.random.default_rng(seed)
    logits = 3 * draw.normal(size=(users, rank)) @ draw.normal(size=(rank, items)) / np.sqrt(rank)
    user, item = (index.ravel() + 1 for index in np.indices(logits.shape))
    order = draw.permutation(len(user))
    label = (draw.random(len(user)) < 1 / (1 + np.exp(-logits.ravel()))).astype(np.float32)

    def part(rows):
        n = len(rows)
        empty = np.zeros((n, 1), dtype=np.int64)
        return Split(user[rows], item[rows], label[rows], np.arange(n), empty, np.ones(n, dtype=bool))

    train, valid, held_out = np.split(order, [int(0.7 * len(order)), int(0.8 * len(order))])
    data = SimpleNamespace(n_users=users, n_items=items, train=part(train), valid=part(valid))
    return data, part(held_out), logits.ravel()[held_out]


QUICK = ["collab.dim=8", "collab.mf.batch_size=512", "collab.mf.weight_decay=1e-3", "collab.mf.learning_rate=2e-2"]


@pytest.fixture(scope="module")
def dataset(small_ratings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "dataset"
    sources = [f"data.{name}={small_ratings / name}.csv" for name in ("interactions", "items")]
    prepare_data(load_config(None, sources), folder, Tracker())
    return folder


@pytest.fixture(scope="module")
def small_config():
    quick = [
        f"collab.{kind}.{setting}" for kind in ("mf", "lightgcn") for setting in ("batch_size=256", "max_epochs=12")
    ]
    return load_config(None, ["collab.dim=8", *quick, "collab.mf.learning_rate=2e-2", "collab.mf.weight_decay=1e-3"])


def test_mf_recovers_a_planted_low_rank_matrix():
    data, held_out, logits = planted()
    config = load_config(None, QUICK).collab
    torch.manual_seed(0)
    model = create_model("mf", config, data)
    fit(model, data, config.mf, Tracker())
    assert spearmanr(model.tables(data.train).score_split(held_out), logits).statistic > 0.8


@pytest.mark.parametrize("kind", ["mf", "lightgcn"])
def test_the_best_epoch_is_the_one_kept(kind):
    data, _, _ = planted()
    config = load_config(None, [*QUICK, "collab.mf.weight_decay=0", "collab.lightgcn.learning_rate=5e-2"]).collab
    torch.manual_seed(0)
    model, recorder = create_model(kind, config, data), Recorder()
    found = fit(model, data, getattr(config, kind), recorder)
    best = int(np.argmax(found.valid_auc)) + 1
    assert found.metrics["epochs"] == best
    assert best < len(found.valid_auc)  # it overfitted, so keeping the last one would show
    kept = roc_auc_score(data.valid.label, model.tables(data.train).score_split(data.valid))
    assert kept == pytest.approx(max(found.valid_auc), abs=1e-6)
    assert [step for step, _ in recorder.logged] == list(range(1, len(found.valid_auc) + 1))
    assert recorder.progressed[-1] == (len(found.valid_auc), getattr(config, kind).max_epochs)


def test_padding_rows_stay_zero_through_training():
    data, _, _ = planted()
    config = load_config(None, QUICK).collab
    model = create_model("lightgcn", config, data)
    fit(model, data, config.lightgcn.model_copy(update={"max_epochs": 2}), Tracker())
    for table in (model.user, model.item, model.user_bias, model.item_bias, *model.vectors()):
        assert table[0].abs().sum() == 0


def test_step_writes_both_models(dataset, small_config, tmp_path):
    recorder = Recorder()
    train_collab(small_config, dataset, tmp_path / "collab", recorder)
    metrics = json.loads((tmp_path / "collab" / "metrics.json").read_text())
    curves = json.loads((tmp_path / "collab" / "curves.json").read_text())
    assert set(curves) == {f"{k}_{n}" for k in ("mf", "lightgcn") for n in ("train_loss", "valid_auc")}
    valid = PreparedData(dataset).valid
    for kind in ("mf", "lightgcn"):
        assert set(metrics[kind]) == {"valid_auc", "valid_uauc", "epochs", "seconds"}
        curve = curves[f"{kind}_valid_auc"]
        assert curve["step"] == list(range(1, len(curve["value"]) + 1))
        tables = CollabTables.load(tmp_path / "collab" / kind / "tables")
        auc = roc_auc_score(valid.label, tables.score_split(valid))
        assert auc == pytest.approx(metrics[kind]["valid_auc"], abs=1e-6)
        assert auc > 0.65  # planted taste
        again = load_model(tmp_path / "collab" / kind)
        assert torch.equal(again.vectors()[0], tables.user_vectors)
    assert recorder.logged[-1][1]["best/mf_valid_auc"] == metrics["mf"]["valid_auc"]


def test_step_repeats_itself_with_the_seed(dataset, small_config, tmp_path):
    for name in ("one", "two"):
        train_collab(small_config, dataset, tmp_path / name, Tracker())
    for file in ("mf/tables/tables.safetensors", "lightgcn/tables/tables.safetensors", "lightgcn/model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    other = small_config.model_copy(update={"seed": 1})
    train_collab(other, dataset, tmp_path / "three", Tracker())
    file = "mf/tables/tables.safetensors"
    assert (tmp_path / "one" / file).read_bytes() != (tmp_path / "three" / file).read_bytes()


def test_a_diverged_training_leaves_no_output(dataset, small_config, tmp_path):
    diverging = small_config.collab.mf.model_copy(update={"learning_rate": 1e30})
    collab = small_config.collab.model_copy(update={"mf": diverging})
    with pytest.raises(ValueError, match="NaN"):
        train_collab(small_config.model_copy(update={"collab": collab}), dataset, tmp_path / "collab", Tracker())
    assert not (tmp_path / "collab").exists()
