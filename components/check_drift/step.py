"""check-drift: compare the interactions since the champion with those it was trained on, and say whether to train."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from pathlib import Path

from components.check_drift.comparison import Comparison, compare
from components.check_drift.decision import Champion, RetrainDecision, decide
from components.check_drift.report import write_report
from sella_rec.config import Config
from sella_rec.data.training_reference import load_reference
from sella_rec.files import atomic_output
from sella_rec.tracking.tracker import Tracker

logger = logging.getLogger(__name__)


def check_drift(
    config: Config, dataset: Path, champion: Champion | None, now: datetime, output: Path, tracker: Tracker
) -> RetrainDecision:
    """Compare, decide by `config.retrain`, and write `output`: `drift.json` and `report.html`.

    Args:
        dataset: prepare-data's folder.
        champion: None before the first promotion.
        now: the time the run was scheduled for, with its time zone.
        tracker: receives how far each measure has moved, and the report.
    """
    reference, comparison = None, None
    if champion and champion.reference:
        reference, now_known = load_reference(champion.reference), load_reference(dataset)
        comparison = compare(reference, now_known.rows, now_known.titles, config.retrain, config.seed)
    decision = decide(config.retrain, champion, comparison, now)
    logger.info("%s: %s", "training" if decision.retrain else "nothing to do", decision.reason)
    with atomic_output(output) as folder:
        folder.mkdir()
        record = {
            "retrain": decision.retrain,
            "reason": decision.reason,
            "policy": config.retrain.policy,
            "champion": champion and {"label": champion.label, "age_days": round(champion.age(now), 2)},
            "comparison": comparison and comparison.to_json(),
        }
        (folder / "drift.json").write_text(json.dumps(record, indent=2) + "\n")
        write_report(folder / "report.html", decision, champion, comparison, reference, config.retrain)
    if comparison is not None:
        tracker.metrics(flat_metrics(comparison))
    tracker.params({"retrain": decision.retrain, "reason": decision.reason})
    tracker.artifact(output / "report.html")
    tracker.artifact(output / "drift.json")
    return decision


def flat_metrics(comparison: Comparison) -> dict[str, float]:
    """`drift_<measure>` (how far it moved) and `drift_<measure>_p`, for tracking."""
    flat = {"drift_rows": float(comparison.rows), "drifted_measures": float(len(comparison.drifted))}
    for name, measured in comparison.measures.items():
        flat |= {f"drift_{name}": measured.moved, f"drift_{name}_p": measured.p}
    return flat
