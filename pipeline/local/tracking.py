"""MLflow as local commands reach it: a server, or a database in this folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sella_rec.tracking.registry import RegistryError
from sella_rec.tracking.server import TrackingError, answer_soon, prepare_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow, where MLFLOW_TRACKING_URI does not name another
DEFAULT_TRACKING = "sqlite:///mlflow.db"
_SERVER = "MLFLOW_TRACKING_URI"
_DATABASE = DEFAULT_TRACKING.removeprefix("sqlite:///")


def connect() -> MlflowClient:
    """Connect to the registry; a server that does not answer is reported at once.

    Raises:
        RegistryError: `MLFLOW_TRACKING_URI` is not set, and there is no database in this folder.
        TrackingError: it cannot be used.
    """
    if _SERVER not in os.environ and not Path(_DATABASE).is_file():
        raise RegistryError(
            f"no {_DATABASE} in this folder: set {_SERVER}, or use the folder of an earlier `sella run`"
        )
    os.environ.setdefault(_SERVER, DEFAULT_TRACKING)
    open_tracking()
    from mlflow import MlflowClient

    return MlflowClient()


def open_tracking() -> None:
    """Create the database if it is missing, as several steps at once would break it; or check that the server answers.

    Raises:
        TrackingError: it cannot be used.
    """
    prepare_client()
    answer_soon()
    from mlflow import MlflowClient, MlflowException

    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        MlflowClient().search_experiments(max_results=1)
    except MlflowException as error:
        uri = os.environ["MLFLOW_TRACKING_URI"]
        raise TrackingError(f"MLFLOW_TRACKING_URI = {uri} cannot be used: {error}") from error
