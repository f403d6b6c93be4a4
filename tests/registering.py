"""Registers a folder as the bundle of a model that does nothing, for tests of what is read from a bundle."""

from __future__ import annotations

from pathlib import Path

import mlflow

from sella_rec.tracking.registry import ModelVersion

NAME = "sella-rec"
_CODE = """
import mlflow

def same(model_input: list[str]) -> list[str]:
    return model_input

mlflow.models.set_model(same)
"""


def register_bundle(store: str, bundle: Path, folder: Path) -> ModelVersion:
    """The next version of `sella-rec` in the store of this address, whose artifacts go to `folder`."""
    (folder / "model.py").write_text(_CODE)
    mlflow.set_tracking_uri(store)
    client = mlflow.MlflowClient()
    known = client.get_experiment_by_name(NAME)
    experiment = known.experiment_id if known else client.create_experiment(NAME, (folder / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        logged = mlflow.pyfunc.log_model(
            name=NAME,
            python_model=str(folder / "model.py"),
            artifacts={"bundle": str(bundle)},
            pip_requirements=[],
            registered_model_name=NAME,
        )
    return ModelVersion(NAME, str(logged.registered_model_version), logged.model_id)
