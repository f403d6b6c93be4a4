"""finish: close the pipeline's MLflow run, however the steps ended."""

from __future__ import annotations

from sella_rec.runtime.supervision import exit_with_runner
from sella_rec.tracking.runs import close_pipeline_run

# Kubeflow Pipelines' final states of a task, as MLflow's run statuses.
_MLFLOW_STATUS = {"SUCCEEDED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED"}


def close_run(state: str) -> None:
    """Close the run of `KFP_RUN_ID`.

    Args:
        state: of the pipeline, as Kubeflow Pipelines reports it: SUCCEEDED, CANCELLED, or else it has failed.
    """
    exit_with_runner()
    close_pipeline_run(_MLFLOW_STATUS.get(state, "FAILED"))
