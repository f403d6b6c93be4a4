"""The papers' benchmark over tiny data, and a watch on the steps it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from benchmarks.paper import stages as paper_stages
from sella_rec.config import Config


@pytest.fixture(scope="module")
def command(
    tiny_config: Config, fresh_store: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[str]]:
    """The benchmark's options for seconds of work, MLflow in a store of its own."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_config.model_dump(mode="json")))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # MLflow remembers both for the rest of the process, beside the environment
        patch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
        patch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
        patch.setenv("MLFLOW_TRACKING_URI", fresh_store())
        patch.setenv("MLFLOW_EXPERIMENT_ID", "set by the benchmark, and so put back by the patch")
        patch.delenv("MLFLOW_EXPERIMENT_ID")
        fewer = ["tune.max_labels=80", "fuse.max_labels=80", "collab.lightgcn.max_epochs=3", "align.max_epochs=2"]
        yield ["--config", "tiny.yaml", "--seeds", "0", "--out", str(folder / "out"), "--set", *fewer]


@pytest.fixture
def steps_done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Steps that are done from here on."""
    done: list[str] = []
    really = paper_stages._run

    def watched(step: str, *given: Any) -> None:
        done.append(step)
        really(step, *given)

    monkeypatch.setattr(paper_stages, "_run", watched)
    return done
