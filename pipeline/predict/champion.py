"""The registry's champion, as a bundle in this folder's cache."""

from __future__ import annotations

from pathlib import Path

from pipeline.local.run_folder import CACHE
from pipeline.local.tracking import connect
from sella_rec.tracking.promotions import require_champion
from sella_rec.tracking.registry import ModelVersion, download_bundle


def fetch_champion(model: str) -> tuple[Path, ModelVersion]:
    """Download the champion's bundle, unless it is in the cache already.

    Args:
        model: name of the registered model.

    Raises:
        RegistryError: there is no registry, or it has no champion.
        TrackingError: the registry cannot be used.
    """
    version = require_champion(connect(), model)
    # the id distinguishes registries with the same version numbers
    folder = CACHE / "champions" / f"{version.name}-{version.number}-{version.model_id}"
    return folder if folder.is_dir() else download_bundle(version, folder), version
