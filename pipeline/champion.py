"""The champion of the registry, as a bundle in this folder's cache."""

from __future__ import annotations

import os
from pathlib import Path

from components.core.champion import find_champion
from components.core.registry import RegistryError, Version, download_bundle
from pipeline.local import open_tracking
from pipeline.runs import CACHE, DEFAULT_TRACKING

_SERVER = "MLFLOW_TRACKING_URI"
_DATABASE = Path(DEFAULT_TRACKING.removeprefix("sqlite:///"))


def fetch_champion(model: str) -> tuple[Path, Version]:
    """Download the champion's bundle, unless it is in the cache already.

    Args:
        model: name of the registered model.

    Raises:
        RegistryError: no registry is named and none is here, or it has no champion.
        TrackingError: it cannot be used.
    """
    if _SERVER not in os.environ and not _DATABASE.is_file():
        raise RegistryError(f"no {_DATABASE} in this folder: set {_SERVER}, or work where `sella run` did")
    os.environ.setdefault(_SERVER, DEFAULT_TRACKING)
    open_tracking()
    from mlflow import MlflowClient

    version = find_champion(MlflowClient(), model)
    if version is None:
        raise RegistryError(f"{model} has no champion: `sella promote VERSION` makes a version champion")
    # the id tells apart registries that count alike
    folder = CACHE / "champions" / f"{version.name}-{version.number}-{version.model_id}"
    return folder if folder.is_dir() else download_bundle(version, folder), version
