"""MLflow as the commands of this machine reach it: a server, or a database in this folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sella_rec.tracking.registry import RegistryError
from sella_rec.tracking.runs import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow, where MLFLOW_TRACKING_URI does not name another
DEFAULT_TRACKING = "sqlite:///mlflow.db"
_SERVER = "MLFLOW_TRACKING_URI"
_DATABASE = DEFAULT_TRACKING.removeprefix("sqlite:///")


def connect() -> MlflowClient:
    """The registry, reached once, so that a server that is not there is told of at once.

    Raises:
        RegistryError: none is named, and none is here.
        TrackingError: it cannot be used.
    """
    if _SERVER not in os.environ and not Path(_DATABASE).is_file():
        raise RegistryError(f"no {_DATABASE} in this folder: set {_SERVER}, or work where `sella run` did")
    os.environ.setdefault(_SERVER, DEFAULT_TRACKING)
    open_tracking()
    from mlflow import MlflowClient

    return MlflowClient()


def open_tracking() -> None:
    """Make a database that is not there yet: several steps at once would break it; and reach the server, if it is one.

    Raises:
        TrackingError: it cannot be used.
    """
    # whoever waits for a command should be told in seconds; its steps wait longer (see `sella_rec.transient`)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow import MlflowClient, MlflowException

    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        MlflowClient().search_experiments(max_results=1)
    except MlflowException as error:
        uri = os.environ["MLFLOW_TRACKING_URI"]
        raise TrackingError(f"MLFLOW_TRACKING_URI = {uri} cannot be used: {error}") from error
