"""What MLflow knows of a run's steps: how each stands and why it failed, where Kubeflow Pipelines' API does not say."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from sella_rec.errors import UserError
from sella_rec.names import EXPERIMENT
from sella_rec.runtime.failure_reason import ERROR_TAG
from sella_rec.tracking.runs import RUN_TAG, SERVER_VARIABLES, STEP_TAG

_STATES = {"FINISHED": "SUCCEEDED", "SCHEDULED": "PENDING"}
# of shards, whose runs are numbered, the one furthest from done counts
_FURTHEST = ("FAILED", "KILLED", "RUNNING", "PENDING", "SUCCEEDED")
_SHARD = re.compile(r"-\d{3,}$")


class RecordsError(UserError):
    """The MLflow server that is named does not answer."""


@dataclass(frozen=True)
class StepRecord:
    """A step's MLflow run.

    Attributes:
        state: SUCCEEDED, FAILED, KILLED, RUNNING or PENDING.
        error: why it failed, where it has told.
    """

    state: str
    error: str | None


def find_records(run_id: str) -> dict[str, StepRecord] | None:
    """The records of a pipeline run's steps, by step.

    Returns:
        None where neither `MLFLOW_TRACKING_URI` nor `SELLA_MLFLOW_TRACKING_URI` is set.

    Raises:
        RecordsError: the server does not answer, or refuses.
    """
    if not _use_server():
        return None
    from mlflow import MlflowClient, MlflowException

    uri = os.environ["MLFLOW_TRACKING_URI"]
    try:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT))
        found = client.search_runs([experiment.experiment_id], f"tags.`{RUN_TAG}` = '{run_id}'") if experiment else []
    except MlflowException as error:
        raise RecordsError(f"MLFLOW_TRACKING_URI = {uri} cannot be asked about the steps: {error}") from error
    records: dict[str, StepRecord] = {}
    for run in found:
        tags = run.data.tags
        step = _SHARD.sub("", tags.get(STEP_TAG, ""))
        record = StepRecord(_STATES.get(run.info.status, run.info.status), tags.get(ERROR_TAG))
        records[step] = min(records.get(step, record), record, key=lambda each: _FURTHEST.index(each.state))
    return records


def _use_server() -> bool:
    """Whether there is a server; a command waits seconds for it, not MLflow's minutes."""
    if "MLFLOW_TRACKING_URI" not in os.environ:
        given = {name: os.environ[f"SELLA_{name}"] for name in SERVER_VARIABLES if f"SELLA_{name}" in os.environ}
        os.environ.update(given)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    return "MLFLOW_TRACKING_URI" in os.environ
