"""promote: register the trained bundle as the challenger, and make it champion if it passes the gate."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.promote.gate import PromotionDecision, decide
from components.promote.register import register
from components.promote.window import read_window
from sella_rec.config import Config
from sella_rec.environment import pipeline_run
from sella_rec.runtime.checkpoints import content_digest
from sella_rec.tracking.promotions import find_champion, replace_champion
from sella_rec.tracking.registry import CHALLENGER, ModelVersion
from sella_rec.tracking.runs import RUN_TAG
from sella_rec.tracking.server import NO_REGISTRY, has_server
from sella_rec.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

BUNDLE_TAG, DECISION_TAG, REASON_TAG = "sella.bundle", "sella.decision", "sella.reason"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result for a run's model.

    Attributes:
        model: the registered model's name.
        version: the challenger's number; empty if nothing is registered.
        champion: number of the champion now; empty for none.
    """

    model: str
    version: str
    champion: str
    decision: PromotionDecision

    @property
    def tags(self) -> dict[str, str]:
        """For MLflow."""
        return {
            DECISION_TAG: "promoted" if self.decision.promoted else "not promoted",
            REASON_TAG: self.decision.reason,
        }


def promote(
    config: Config,
    bundle: Path,
    evaluation: Path,
    champion_scores: Path,
    champion: str,
    tracker: Tracker,
    run_config: Config | None = None,
) -> Outcome:
    """Register the bundle with the alias `challenger`, and give it the alias `champion` if it passes the gate.

    It replaces only the champion that it was compared with. A step that is retried finds the version that it registered
    before, and comes to the same decision.

    Args:
        config: sections promote and evaluate (bootstrap), seed.
        bundle: fuse's folder.
        evaluation: evaluate's folder.
        champion_scores: score-champion's folder.
        champion: find-champion's result, which the scores belong to.
        tracker: receives version and decision.
        run_config: the whole configuration of the run, for the model card; none: `config` is that.

    Returns:
        Without a version, with a warning in the log, if `MLFLOW_TRACKING_URI` is not set.
    """
    name = config.promote.model_name
    if not has_server():
        log.warning("not registered: %s; the model is in %s", NO_REGISTRY, bundle)
        return Outcome(name, "", "", PromotionDecision(False, NO_REGISTRY))
    from mlflow import MlflowClient

    client, base = MlflowClient(), ModelVersion.parse(champion)
    version = _challenger(client, run_config or config, bundle, evaluation)
    if base and _digest(client, base.name, base.number) == _digest(client, name, version):
        decision = PromotionDecision(False, f"the model is the same as the champion, {base.label}: nothing to promote")
    else:
        decision = judge(config, bundle, evaluation, champion_scores, has_champion=base is not None)
    expected = base.number if base else ""
    if decision.promoted and not replace_champion(client, name, expected, version, decision.reason):
        decision = PromotionDecision(False, _stale(base, find_champion(client, name)), decision.checks)
    now = find_champion(client, name)
    outcome = Outcome(name, version, now.number if now else "", decision)
    for key, value in outcome.tags.items():
        client.set_model_version_tag(name, version, key, value)
    _track(outcome, tracker)
    return outcome


def _challenger(client: MlflowClient, config: Config, bundle: Path, evaluation: Path) -> str:
    """The version of this pipeline run, registered if there is none yet."""
    name = config.promote.model_name
    versions = client.search_model_versions(f"name = '{name}'")
    mine = [str(v.version) for v in versions if v.tags.get(RUN_TAG) == pipeline_run()]
    version = mine[0] if mine else register(client, config, bundle, evaluation)
    client.set_model_version_tag(name, version, BUNDLE_TAG, content_digest(bundle))
    client.set_registered_model_alias(name, CHALLENGER, version)
    return version


def _digest(client: MlflowClient, name: str, number: str) -> str | None:
    """None for a version that was deleted or registered without one, which equals no other."""
    found = client.search_model_versions(f"name = '{name}' and version_number = '{number}'")
    return found[0].tags.get(BUNDLE_TAG) if found else None


def judge(
    config: Config, bundle: Path, evaluation: Path, champion_scores: Path, has_champion: bool
) -> PromotionDecision:
    """Compare the challenger with the champion, or with the collaborative arms if there is none."""
    tolerance = config.promote.tolerance if has_champion else config.promote.first_tolerance
    window = read_window(bundle, evaluation, champion_scores)
    return decide(window, config.promote, tolerance, config.evaluate.bootstrap_samples, config.seed)


def _stale(base: ModelVersion | None, now: ModelVersion | None) -> str:
    before, after = (version.label if version else "none" for version in (base, now))
    return (
        f"the champion has changed since this run began, from {before} to {after}: start a new run to compare with it"
    )


def _track(outcome: Outcome, tracker: Tracker) -> None:
    tracker.params({"model": outcome.model, "version": outcome.version})
    for check in outcome.decision.checks:
        found = check.measured
        if found.rival and found.interval:
            name = f"{check.name}_vs_{found.rival}".lower().replace(" ", "_")
            low, high = found.interval
            tracker.metrics({f"{name}_diff": found.difference, f"{name}_low": low, f"{name}_high": high})
    log.info("%s version %s: %s", outcome.model, outcome.version, ", ".join(outcome.tags.values()))
