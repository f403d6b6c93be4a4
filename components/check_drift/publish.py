"""Publishes the decision: on Kubeflow's page of the step, and in the pipeline's MLflow run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from sella_rec.tracking.runs import NOTE_TAG, RETRAIN_TAG, StepRun

REASON_TAG = "sella.retrain_reason"


def publish(drift: Path, metrics: Any, report: str) -> None:
    """Fill the step's output artifacts.

    Args:
        drift: the step's folder.
        metrics: a KFP Metrics artifact; receives how far each measure has moved.
        report: path that the page is copied to.
    """
    comparison = json.loads((drift / "drift.json").read_text())["comparison"]
    for name, measured in (comparison["measures"] if comparison else {}).items():
        metrics.log_metric(name, round(measured["moved"], 5))
    # a local cache treats an artifact without a file as lost
    for path in (Path(metrics.path), Path(report)):
        path.parent.mkdir(parents=True, exist_ok=True)
    Path(metrics.path).write_text(json.dumps(metrics.metadata))
    shutil.copyfile(drift / "report.html", report)


def log_drift(run: StepRun, drift: Path) -> None:
    """Tag the pipeline's run with the decision and log the report there; if nothing is trained, its note says so."""
    if run.parent_id is None:
        return
    decision = json.loads((drift / "drift.json").read_text())
    run.client.set_tag(run.parent_id, RETRAIN_TAG, "yes" if decision["retrain"] else "no")
    run.client.set_tag(run.parent_id, REASON_TAG, decision["reason"])
    run.client.log_artifact(run.parent_id, str(drift / "report.html"), "drift")
    run.client.log_artifact(run.parent_id, str(drift / "drift.json"), "drift")
    if not decision["retrain"]:
        run.client.set_tag(run.parent_id, NOTE_TAG, f"Nothing to do: {decision['reason']}.")
