"""Why a step failed, left where it can be read: in the pod's termination message and in the step's MLflow run.

Kubeflow Pipelines' API says only that a step failed.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from sella_rec.addresses import without_password
from sella_rec.environment import TERMINATION_LOG
from sella_rec.errors import UserError
from sella_rec.tracking import runs as mlflow_runs
from sella_rec.tracking.server import TrackingError
from sella_rec.tracking.shared_writes import set_tags

# Kubernetes makes it in every container, and keeps so many bytes of it.
_TERMINATION_LOG, _TERMINATION_BYTES = "/dev/termination-log", 4096
ERROR_TAG, ERROR_TYPE_TAG = "sella.error", "sella.error_type"
_TAG_LENGTH = 5000
_SECRET_VARIABLE = re.compile("PASSWORD|SECRET|TOKEN|ACCESS_KEY")
log = logging.getLogger(__name__)


def tell_failure(error: BaseException, step: str, run: mlflow_runs.StepRun | None) -> None:
    """Write the reason to the termination message, tag the step's run with it, and end that as FAILED.

    What cannot be written is logged: the step's own error is the one to raise.

    Args:
        run: none where the step failed before it was opened; it is opened then, to hold the reason.
    """
    reason = reason_of(error)
    _write_termination_message(reason)
    if isinstance(error, TrackingError) or type(error).__module__.startswith("mlflow."):
        # it has been waited for already, or refuses
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
    try:
        run = run or mlflow_runs.open_step_run(step)
        if run is not None:
            tags = {ERROR_TYPE_TAG: type(error).__name__, ERROR_TAG: reason[:_TAG_LENGTH]}
            set_tags(run.client, run.run_id, tags)
            mlflow_runs.close_step_run("FAILED")
    except Exception as untold:  # MLflow, or the network under it: each raises its own kinds
        log.warning("the step's MLflow run could not be told of its failure: %s", untold)


def reason_of(error: BaseException) -> str:
    """A user's error in its own words, any other with its type before them; no secrets."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return _without_secrets(text)


def _without_secrets(text: str) -> str:
    text = without_password(text)
    for name, value in os.environ.items():
        # a short one would blot out words
        if _SECRET_VARIABLE.search(name) and len(value) >= 6:
            text = text.replace(value, "***")
    return text


def _write_termination_message(reason: str) -> None:
    path = Path(os.environ.get(TERMINATION_LOG, _TERMINATION_LOG))
    if not path.exists():
        return
    # cut between characters
    message = reason.encode()[:_TERMINATION_BYTES].decode(errors="ignore")
    try:
        path.write_text(message)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)
