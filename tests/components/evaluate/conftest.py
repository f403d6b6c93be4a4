"""A made-up prepared data set with planted taste, what the steps leave of it, and a bundle that knows it in part."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import torch

from sella_rec.collab.tables import CollabTables
from sella_rec.config import Config, EvaluateConfig
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.data.row_selection import evaluation_rows
from sella_rec.model.late_fusion import VALID_LOGITS, save_valid_logits

HOSTILE_TITLE = "<script>alert('x')</script> & $\\frac{1}$ </svg>"


@dataclass
class World:
    """Paths of what the steps before evaluate leave, and the planted taste, logits [users + 1, items + 1]."""

    dataset: Path
    collab: Path
    adapter: Path
    curves: dict[str, Path]
    alignment: Path
    taste: np.ndarray


class FakeBundle:
    """Scores are the planted taste plus fixed noise: a lot for text_only, a little for sella."""

    noise: ClassVar = {"text_only": 3.0, "sella": 0.7}

    def __init__(self, world: World):
        data = PreparedData(world.dataset)
        self.config, self.items, self.taste, self.asked = Config(), data.items, world.taste, []
        # as long as this user's own history, so that users' pairs differ in width
        likes = [data.test.history[data.test.user == user][0] for user in range(1, data.n_users + 1)]
        history = [data.items["item_id"].gather(row[row > 0] - 1).to_list() for row in likes]
        self.users = data.users.with_columns(history=pl.Series(history), seen=pl.Series(history))
        self.soft_tokens = SimpleNamespace(
            tables=CollabTables.load(world.collab / "mf" / "tables"), semantics=torch.zeros(data.n_items + 1, 1)
        )

    def score(self, split: Split, arm: str = "sella", progress: Any = None) -> np.ndarray:
        self.asked.append((arm, split))
        noise = np.random.default_rng(len(arm)).normal(0, self.noise[arm], self.taste.shape)
        if progress is not None:
            progress(len(split), len(split))
        return (self.taste + noise)[split.user, split.item].astype(np.float32)


def make_world(folder: Path, titles: list[str], users: int = 30, each: int = 30, seed: int = 0) -> World:
    """Ratings that follow `taste`; the last tenth of the items and of the users is not in train."""
    draw = np.random.default_rng(seed)
    items = len(titles)
    vectors = draw.normal(0, 1, (users + 1, 3)), draw.normal(0, 1, (items + 1, 3))
    taste = vectors[0] @ vectors[1].T + draw.normal(0, 0.7, items + 1)
    dataset = folder / "dataset"
    dataset.mkdir(parents=True)
    warm_user, warm_item = np.arange(users + 1) <= users * 0.9, np.arange(items + 1) <= items * 0.9
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "valid": [], "test": []}
    for user in range(1, users + 1):
        liked: list[str] = []
        for place, item in enumerate(draw.choice(items, each, replace=False) + 1):
            label = int(draw.random() < 1 / (1 + np.exp(-2 * taste[user, item])))
            share = place / each
            split = "train" if share < 0.6 else "valid" if share < 0.75 else "test"
            warm = bool(warm_user[user] and warm_item[item])
            row = {"user_id": f"u{user}", "item_id": f"i{item}", "timestamp": 10**9 + place, "label": label}
            if split != "train" or warm:
                rows[split].append(row | {"history": liked[-10:], "warm": warm})
            if label:
                liked.append(f"i{item}")
    schema = {"label": pl.Int8, "history": pl.List(pl.String)}
    for split, of_split in rows.items():
        pl.DataFrame(of_split, schema_overrides=schema).write_parquet(dataset / f"{split}.parquet")
    pl.DataFrame({"user_id": [f"u{u}" for u in range(1, users + 1)], "in_train": warm_user[1:]}).write_parquet(
        dataset / "users.parquet"
    )
    ids = [f"i{i}" for i in range(1, items + 1)]
    pl.DataFrame({"item_id": ids, "title": titles, "in_train": warm_item[1:]}).write_parquet(dataset / "items.parquet")
    report: dict[str, Any] = {"interactions": "made up", "rows": users * each, "like_share": 0.5}
    for split, of_split in rows.items():
        report |= {f"{split}_rows": len(of_split), f"{split}_users": users, f"{split}_from": "2001-09-09T01:46:40Z"}
    (dataset / "report.json").write_text(json.dumps(report))
    collab = folder / "collab"
    for arm, noise in (("mf", 0.3), ("lightgcn", 0.6)):
        noisy = [v + draw.normal(0, noise, v.shape) for v in vectors]
        _tables(noisy, warm_user, warm_item).save(collab / arm / "tables")
    world = World(dataset, collab, folder / "adapter", _curves(folder, draw), _alignment(folder, titles, draw), taste)
    tuned(world, EvaluateConfig(), world.adapter)
    return world


def tuned(world: World, config: EvaluateConfig, adapter: Path) -> Path:
    """What tune-llm leaves under these settings, as far as evaluate reads it."""
    adapter.mkdir(parents=True)
    valid = evaluation_rows(PreparedData(world.dataset).valid, config)
    save_valid_logits(adapter / VALID_LOGITS, np.arange(len(valid)), FakeBundle(world).score(valid, "text_only"))
    return adapter


def _tables(vectors: list[np.ndarray], warm_user: np.ndarray, warm_item: np.ndarray) -> CollabTables:
    user, item = (torch.tensor(v * w[:, None]).float() for v, w in zip(vectors, (warm_user, warm_item), strict=True))
    biases = torch.zeros(len(user)), torch.zeros(len(item)), torch.zeros(())
    return CollabTables(user, item, *biases, torch.tensor(warm_user), torch.tensor(0.5))


def _curves(folder: Path, draw: np.random.Generator) -> dict[str, Path]:
    def decay(n: int, noise: float = 0.005) -> dict[str, list[float]]:
        steps = np.arange(1, n + 1)
        return {
            "step": steps.tolist(),
            "value": (0.55 + 0.14 * np.exp(-3 * steps / n) + draw.normal(0, noise, n)).tolist(),
        }

    curves = {
        "train-collab": {
            f"{arm}_{name}": decay(25) for arm in ("mf", "lightgcn") for name in ("train_loss", "valid_auc")
        },
        "tune-llm": {"train_loss": decay(300, 0.05)},
        "align-collab": {"collab_loss": decay(20), "align_loss": decay(20), "valid_auc": decay(20)},
        "fuse": {"train_loss": decay(200, 0.05)},
    }
    paths = {step: folder / f"{step}.json" for step in curves}
    for step, path in paths.items():
        path.write_text(json.dumps(curves[step]))
    return paths


def _alignment(folder: Path, titles: list[str], draw: np.random.Generator) -> Path:
    shown = min(500, len(titles))
    semantics = draw.normal(0, 1, (shown, 2))
    frames = []
    for when, projected in (
        ("before", draw.normal(0, 0.2, (shown, 2))),
        ("after", semantics + draw.normal(0, 0.2, (shown, 2))),
    ):
        for kind, at in (("projected", projected), ("semantics", semantics)):
            labels = {"item_id": [f"i{i + 1}" for i in range(shown)], "title": titles[:shown]}
            frames.append(
                pl.DataFrame(labels | {"x": at[:, 0], "y": at[:, 1]}).with_columns(kind=pl.lit(kind), when=pl.lit(when))
            )
    path = folder / "alignment.parquet"
    pl.concat(frames).select("item_id", "title", "kind", "when", "x", "y").write_parquet(path)
    return path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    titles = [HOSTILE_TITLE, *[f"Film {i} ({1950 + i % 60})" for i in range(2, 61)]]
    return make_world(tmp_path_factory.mktemp("world"), titles)


@pytest.fixture(scope="session")
def make_bundle(world: World) -> Callable[[], FakeBundle]:
    return lambda: FakeBundle(world)


@pytest.fixture
def bundle(make_bundle: Callable[[], FakeBundle], monkeypatch: pytest.MonkeyPatch) -> FakeBundle:
    """Stands in for the bundle that `evaluate` loads, whatever the folder."""
    fake = make_bundle()
    monkeypatch.setattr("components.evaluate.step.load_bundle", lambda folder, device: fake)
    return fake
