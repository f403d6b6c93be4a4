"""Shows what came of a run in MLflow, on the pipeline's run: the comparison of the arms, and the decision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sella_rec.tracking.runs import NOTE_TAG, StepRun


def log_outcome(run: StepRun, evaluation: Path) -> None:
    """Log every metric of every arm and slice, the table of arms and the report to the pipeline's run."""
    if run.parent_id is None:
        return
    from mlflow.entities import Metric

    arms = json.loads((evaluation / "summary.json").read_text())["arms"]
    rows = [{"arm": arm, "slice": part, **values} for arm, parts in arms.items() for part, values in parts.items()]
    metrics = [
        Metric(f"{row['arm']}/{row['slice']}/{name}", float(value), 0, 0)
        for row in rows
        for name, value in row.items()
        if isinstance(value, int | float)
    ]
    run.client.log_batch(run.parent_id, metrics=metrics)
    columns = {name: [row.get(name) for row in rows] for name in rows[0]}
    columns["uauc_ci"] = [f"{ci[0]:.4f} to {ci[1]:.4f}" if ci else "" for ci in columns["uauc_ci"]]
    if not any(file.path == "arms.json" for file in run.client.list_artifacts(run.parent_id)):
        run.client.log_table(run.parent_id, columns, "arms.json")
    run.client.log_artifact(run.parent_id, str(evaluation / "report.html"))
    run.client.set_tag(run.parent_id, NOTE_TAG, _note(arms))


def log_decision(run: StepRun, page: str | Path, tags: Mapping[str, str]) -> None:
    """Log the promotion's page and tags to the step's run and its parent."""
    for run_id in run.run_ids():
        run.client.log_text(run_id, Path(page).read_text(encoding="utf-8"), "promotion.html")
        for key, value in tags.items():
            run.client.set_tag(run_id, key, value)


def _note(arms: Mapping[str, Any]) -> str:
    """The table of arms on all test rows in Markdown, for the parent's page."""
    lines = ["| arm | AUC | UAUC | NDCG | MAP |", "|---|---|---|---|---|"]
    for arm, slices in arms.items():
        values = (slices["all"][name] for name in ("auc", "uauc", "ndcg", "map"))
        lines.append(f"| {arm} | {' | '.join('-' if v is None else f'{v:.4f}' for v in values)} |")
    return "\n".join(lines)
