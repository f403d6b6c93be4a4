"""Where MLflow is, and how every step, command and server here reaches it."""

from __future__ import annotations

import os

from sella_rec.errors import UserError

TRACKING_URI = "MLFLOW_TRACKING_URI"
NO_REGISTRY = f"{TRACKING_URI} is not set, so there is no registry"
# MLflow's clients would go to the bucket themselves, by the name that the server has for it: from another network that
# is no name at all. Through the server they reach whatever it reaches.
CLIENT_DEFAULTS = {
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}
# where somebody waits for the answer: MLflow's own retries take minutes
_FEW_RETRIES = "2"


class TrackingError(UserError):
    """MLflow cannot be reached or used; the message names the address and the cause."""


def has_server() -> bool:
    """Whether an MLflow server or database is named."""
    return TRACKING_URI in os.environ


def prepare_client() -> None:
    """Set MLflow's variables for this process and those that it starts, where the user has not: before it is used."""
    for name, value in CLIENT_DEFAULTS.items():
        os.environ.setdefault(name, value)


def answer_soon() -> None:
    """Let a server that does not answer be told of in seconds, for commands and servers; steps are patient."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _FEW_RETRIES)
