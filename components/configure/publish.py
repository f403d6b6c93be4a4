"""Shows what was configured in MLflow: the whole on the pipeline's run, what was fixed here on the step's."""

from __future__ import annotations

import json
from collections.abc import Mapping

from components.code_version import code_version
from sella_rec.runtime.step import Step
from sella_rec.tracking.runs import describe_pipeline_run


def describe(step: Step, settings: Mapping[str, str]) -> None:
    """Log configuration and code version to the pipeline's run, time and data version to the step's."""
    step.tracker.params(
        {
            "data_version": json.loads(settings["prepare-data"])["data_version"],
            "time": json.loads(settings["check-drift"])["time"],
        }
    )
    if step.run is not None:
        describe_pipeline_run(step.run, step.config, code_version())
