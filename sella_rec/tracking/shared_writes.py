"""Writes to a run that another process may be making at the same moment.

On PostgreSQL the later of two equal writes can end with HTTP 400 and a unique violation, though all is as it should be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sella_rec.tracking.server import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

_PARAMS_PER_BATCH = 100


def log_params(client: MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    """Log parameters; those that are there with the same value count as logged.

    Raises:
        TrackingError: one is there with another value.
        mlflow.exceptions.MlflowException: the server refuses them, or does not answer.
    """
    from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

    # as MLflow stores them
    listed = [(name, value[:MAX_PARAM_VAL_LENGTH]) for name, value in params.items()]
    for start in range(0, len(listed), _PARAMS_PER_BATCH):
        _log_batch(client, run_id, dict(listed[start : start + _PARAMS_PER_BATCH]))


def _log_batch(client: MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    from mlflow import MlflowException
    from mlflow.entities import Param

    missing = params
    while missing:
        try:
            client.log_batch(run_id, params=[Param(name, value) for name, value in missing.items()])
            return
        except MlflowException as error:
            there = client.get_run(run_id).data.params
            for name, value in missing.items():
                if there.get(name, value) != value:
                    raise TrackingError(
                        f"MLflow run {run_id} has {name} = {there[name]} already and cannot be given {name} = {value}: "
                        "two processes that differ work on one run"
                    ) from error
            left = {name: value for name, value in missing.items() if name not in there}
            if len(left) == len(missing):
                raise
            missing = left


def set_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags; where two write one at once, the later value stays.

    Raises:
        mlflow.exceptions.MlflowException: the server refuses them, or does not answer.
    """
    from mlflow.entities import RunTag

    # `client.set_tag` fails where two set the same new tag at once; of a batch's tags the server tries again
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def log_inputs(client: MlflowClient, run_id: str, inputs: Sequence[DatasetInput]) -> None:
    """Log data sets as a run's inputs; those that are there already count as logged.

    Raises:
        mlflow.exceptions.MlflowException: the server refuses them, or does not answer.
    """
    from mlflow import MlflowException

    try:
        client.log_inputs(run_id, list(inputs))
    except MlflowException:
        # another process, perhaps of another run, stored the same data set in between: now it is found and linked
        client.log_inputs(run_id, list(inputs))
