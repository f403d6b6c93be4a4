"""The champion as the registry has it: its age, and the training reference in its bundle."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from components.check_drift.decision import Champion
from sella_rec.data.training_reference import REFERENCE_FILES
from sella_rec.tracking.registry import ModelVersion
from sella_rec.transient import retrying

_FILES = (*REFERENCE_FILES, "items.parquet")


def fetch_champion(version: ModelVersion | None, folder: Path) -> Champion | None:
    """Ask MLflow for a version, and copy its training reference, not the whole model, into `folder`.

    Returns:
        None for none. The reference is None where the version was registered without one.
    """
    if version is None:
        return None
    import mlflow

    created = mlflow.MlflowClient().get_model_version(version.name, version.number).creation_timestamp
    champion = Champion(version.label, datetime.fromtimestamp(created / 1000, UTC), None)
    artifacts = mlflow.models.get_model_info(version.uri).flavors["python_function"].get("artifacts", {})
    if "bundle" not in artifacts:
        return champion
    bundle = f"{version.uri}/{artifacts['bundle']['path']}"
    held = {Path(file.path).name for file in mlflow.artifacts.list_artifacts(bundle)}
    if not held.issuperset(_FILES):
        return champion

    def fetch(name: str) -> str:
        return mlflow.artifacts.download_artifacts(f"{bundle}/{name}", dst_path=str(folder))

    paths = [retrying(partial(fetch, name)) for name in _FILES]
    return replace(champion, reference=Path(paths[0]).parent)
