"""finish: close the pipeline's MLflow run, however the steps ended."""

from __future__ import annotations

import logging

from sella_rec.runtime.supervision import exit_with_runner
from sella_rec.tracking.runs import close_pipeline_run
from sella_rec.transient import be_patient

# What ends a task: Kubeflow Pipelines' words, then ML Metadata's, which its driver hands over; in MLflow's words.
_MLFLOW_STATUS = {
    "SUCCEEDED": "FINISHED",
    "FAILED": "FAILED",
    "CANCELLED": "KILLED",
    "COMPLETE": "FINISHED",
    "CACHED": "FINISHED",
    "CANCELED": "KILLED",
}
log = logging.getLogger(__name__)


def close_run(state: str) -> None:
    """Close the run, or log why it cannot be: no reason to fail a pipeline that has ended.

    Args:
        state: how the steps ended, in a word of the table above. RUNNING, which stays where the last of them were
            skipped or stopped, and words unknown are looked up in the steps' own runs.
    """
    exit_with_runner()
    be_patient()
    try:
        close_pipeline_run(_MLFLOW_STATUS.get(state))
    except Exception as error:  # MLflow, or the network under it: each raises its own kinds
        log.warning("the pipeline's MLflow run stays as it is: MLflow cannot be used: %s", error)
