"""A registry in SQLite with the tiny bundle as versions 1 and 2, and version 3, whose bundle no code can read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sella_rec.tracking.registry import CHAMPION

NAME = "sella-rec"


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory, fused: Path) -> Iterator[Any]:
    """MLflow's client, while this process and those that it starts track there."""
    import mlflow

    from components.promote.register import example_input, signature
    from sella_rec.serving import pyfunc as model

    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setenv("SELLA_CACHE", str(folder / "cache"))
        mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
        client = mlflow.MlflowClient()
        with mlflow.start_run() as run:
            client.set_tag(run.info.run_id, "sella.code_version", "c0de")
            logged = mlflow.pyfunc.log_model(
                name=NAME,
                python_model=model.__file__,
                artifacts={"bundle": str(fused)},
                signature=signature(),
                input_example=example_input(fused),
                pip_requirements=["torch"],
            )
        client.create_registered_model(NAME)
        for source in (logged.model_uri, logged.model_uri, _broken(logged.model_uri, folder / "broken")):
            client.create_model_version(NAME, source, run.info.run_id)
        client.set_registered_model_alias(NAME, CHAMPION, "1")
        yield client
        mlflow.set_tracking_uri(None)


def _broken(uri: str, folder: Path) -> str:
    import mlflow

    model = Path(mlflow.artifacts.download_artifacts(uri))
    shutil.copytree(model, folder)
    (note,) = folder.rglob("bundle.json")
    note.write_text(json.dumps({"format": 99}))
    return folder.as_uri()


@pytest.fixture(autouse=True)
def first_is_champion(request: pytest.FixtureRequest) -> None:
    """Whatever the test before did."""
    if "registry" in request.fixturenames:
        request.getfixturevalue("registry").set_registered_model_alias(NAME, CHAMPION, "1")
