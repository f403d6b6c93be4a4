"""The first ten losses of every training stage in deterministic mode, against stored ones.

A difference means that what is trained has changed. If it was meant to: `pytest tests/golden --write-golden`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from components.align_collab.step import align_collab
from components.distill_items.step import distill_items
from components.fuse.step import FuseInputs, fuse
from components.train_collab.step import train_collab
from components.tune_llm.step import tune_llm
from sella_rec.config import Config
from sella_rec.llm import training as llm_training
from sella_rec.runtime.determinism import make_deterministic
from sella_rec.tracking.tracker import Tracker

GOLDEN = Path(__file__).with_name("losses.json")
STEPS = 10
# One batch holds all rows of an epoch, so that an epoch is a step.
SETTINGS = {
    "deterministic": True,
    "collab": {
        "dim": 8,
        "mf": {"max_epochs": STEPS, "patience": STEPS},
        "lightgcn": {"max_epochs": STEPS, "patience": STEPS},
    },
    "align": {"hidden": 32, "max_epochs": STEPS, "patience": STEPS, "align_items": 128},
    "tune": {"learning_rate": 1e-3, "targets_per_history": 4, "max_labels": 4 * 4 * STEPS},
    "fuse": {"learning_rate": 1e-3, "targets_per_history": 4, "max_labels": 4 * 4 * STEPS},
}
Losses = dict[str, list[float]]


@pytest.fixture
def deterministic() -> Iterator[None]:
    threads = torch.get_num_threads()
    make_deterministic()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture
def losses(
    deterministic: None, tiny_config: Config, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Losses:
    """Runs every training step; the losses of its first ten optimizer steps by curve."""
    tree = tiny_config.model_dump(mode="json")
    config = Config.model_validate(
        {**tree, **{k: {**tree[k], **v} if k != "deterministic" else v for k, v in SETTINGS.items()}}
    )
    seen: list[float] = []
    original = llm_training._mean_cross_entropy

    def recorded(*given: Any, **named: Any) -> torch.Tensor:
        loss = original(*given, **named)
        seen.append(loss.item())
        return loss

    monkeypatch.setattr(llm_training, "_mean_cross_entropy", recorded)
    tracker = Tracker()
    inputs = FuseInputs(small_data, *(tmp_path / name for name in ("collab", "tuned", "semantics", "aligned")))
    found: Losses = {}
    train_collab(config, small_data, inputs.collab, tracker)
    tune_llm(config, small_data, inputs.adapter, tmp_path / "tune", tracker)
    found["tune-llm"], seen[:] = seen[:STEPS], []
    distill_items(config, small_data, inputs.adapter, inputs.semantics, tracker)
    align_collab(config, small_data, inputs.collab, inputs.semantics, inputs.aligned, tracker)
    fuse(config, inputs, tmp_path / "bundle", tmp_path / "fuse", tracker)
    found["fuse"], seen[:] = seen[:STEPS], []
    on_titles = config.model_copy(update={"tune": config.tune.model_copy(update={"title_epochs": 1.0})})
    tune_llm(on_titles, small_data, tmp_path / "on-titles", tmp_path / "tune-on-titles", tracker)
    found["tune-llm titles"] = seen[:STEPS]
    for step, folder in (("train-collab", inputs.collab), ("align-collab", inputs.aligned)):
        curves = json.loads((folder / "curves.json").read_text())
        found |= {f"{step} {name}": curve["value"] for name, curve in curves.items() if name.endswith("loss")}
    return found


def test_the_first_ten_losses_of_every_stage_are_the_stored_ones(
    losses: Losses, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--write-golden"):
        GOLDEN.write_text(json.dumps(losses, indent=2) + "\n")
    stored: Losses = json.loads(GOLDEN.read_text())
    assert losses.keys() == stored.keys()
    assert all(len(values) == STEPS for values in stored.values())
    for curve, values in stored.items():
        assert losses[curve] == pytest.approx(values, abs=1e-5), curve
        assert len(set(values)) == STEPS, f"{curve} stands still"
