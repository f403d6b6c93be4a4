"""Where MLflow is: every step and command asks here."""

from __future__ import annotations

import os

TRACKING_URI = "MLFLOW_TRACKING_URI"
NO_REGISTRY = f"{TRACKING_URI} is not set, so there is no registry"


def has_server() -> bool:
    """Whether an MLflow server or database is named."""
    return TRACKING_URI in os.environ
