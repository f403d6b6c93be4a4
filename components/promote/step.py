"""promote: register the trained bundle in MLflow as the challenger."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from components.core.config import Config
from components.core.mlflow_runs import RUN_TAG
from components.core.tracking import Tracker
from components.promote.register import register

ALIAS = "challenger"
log = logging.getLogger(__name__)


def promote(config: Config, bundle: Path, evaluation: Path, tracker: Tracker) -> str:
    """Log the bundle as a model of the active MLflow run, register it, and give it the alias `challenger`.

    A step that is tried again finds the version that it registered before.

    Args:
        config: section promote.
        bundle: fuse's folder.
        evaluation: evaluate's folder; SeLLa-Rec's test metrics become tags of the version.
        tracker: receives the version as a parameter.

    Returns:
        The registered version; empty, with a warning in the log, where `MLFLOW_TRACKING_URI` is not set.
    """
    if "MLFLOW_TRACKING_URI" not in os.environ:
        log.warning("MLFLOW_TRACKING_URI is not set: %s is not registered; it is the folder %s", ALIAS, bundle)
        return ""
    from mlflow import MlflowClient

    client, name = MlflowClient(), config.promote.model_name
    registered = _version_of_this_run(client, name) or register(client, name, bundle, evaluation)
    client.set_registered_model_alias(name, ALIAS, registered)
    tracker.params({"model": name, "version": registered})
    log.info("registered %s version %s as %s", name, registered, ALIAS)
    return registered


def _version_of_this_run(client: Any, name: str) -> str | None:
    found = client.search_model_versions(f"name = '{name}'")
    mine = [v for v in found if v.tags.get(RUN_TAG) == os.environ.get("KFP_RUN_ID")]
    return str(mine[0].version) if mine else None
