"""Shows a batch on the page of its pipeline run in MLflow, in addition to the step's own page."""

from __future__ import annotations

from collections.abc import Mapping

from sella_rec.tracking.runs import StepRun

_NOTE_TAG = "mlflow.note.content"


def publish(run: StepRun | None, measures: Mapping[str, float], model: str, output: str) -> None:
    """Log the measures and where the batch is to the parent run.

    Args:
        run: the step's; none if nothing is tracked.
    """
    if run is None or run.parent_id is None:
        return
    for name, value in measures.items():
        run.client.log_metric(run.parent_id, name, value)
    rows = "\n".join(f"| {name} | {value:.6g} |" for name, value in measures.items())
    note = f"Recommendations of {model} in `{output}`\n\n| measure | |\n|---|---:|\n{rows}"
    run.client.set_tag(run.parent_id, _NOTE_TAG, note)
