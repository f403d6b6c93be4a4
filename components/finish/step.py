"""finish: close the pipeline's MLflow run, whatever became of the steps."""

from __future__ import annotations

from sella_rec.runtime.supervision import exit_with_runner
from sella_rec.tracking.runs import close_pipeline_run

# What Kubeflow Pipelines calls the end of a task, in MLflow's words.
_MLFLOW_STATUS = {"SUCCEEDED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED"}


def finish(state: str) -> None:
    """Close the run.

    Args:
        state: SUCCEEDED, FAILED or CANCELLED, as Kubeflow Pipelines says.
    """
    exit_with_runner()
    close_pipeline_run(_MLFLOW_STATUS.get(state, "FAILED"))
