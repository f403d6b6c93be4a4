"""Whether to train, and why, by the policy of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from components.check_drift.comparison import Comparison, DriftMeasure
from sella_rec.config import RetrainConfig

NAMES = {
    "like_rate": "share of likes",
    "unseen_items": "rows of unseen items",
    "unseen_users": "rows of unseen users",
    "popularity": "popularity of the rated items",
    "activity": "rows per user",
    "title_words": "words in the rated titles",
}


@dataclass(frozen=True)
class Champion:
    """The model in use.

    Attributes:
        label: name and version, for messages.
        created: when it was registered, with its time zone.
        reference: folder that `load_reference` reads; None if the version has none.
    """

    label: str
    created: datetime
    reference: Path | None

    def age(self, now: datetime) -> float:
        """In days."""
        return (now - self.created).total_seconds() / 86_400


@dataclass(frozen=True)
class RetrainDecision:
    """`reason` completes "Training: ..." or "Nothing to do: ..."."""

    retrain: bool
    reason: str


def decide(
    config: RetrainConfig, champion: Champion | None, comparison: Comparison | None, now: datetime
) -> RetrainDecision:
    """Decide by the policy.

    Args:
        comparison: None if there is nothing to compare with, so that drift is unknown.
        now: the time the run was scheduled for.
    """
    if champion is None:
        return RetrainDecision(True, "there is no champion yet")
    if comparison is None:
        return RetrainDecision(True, f"{champion.label} has no training reference to compare with")
    if comparison.drifted:
        moves = ", ".join(tell(name, comparison.measures[name]) for name in comparison.drifted)
        return RetrainDecision(True, f"drift since {champion.label}: {moves}")
    found = f"no drift since {champion.label} ({_newer(comparison)})"
    if config.policy == "always":
        return RetrainDecision(True, f"{found}, but retrain.policy is `always`")
    age = champion.age(now)
    if config.policy == "on-drift-or-days" and age >= config.days:
        return RetrainDecision(True, f"{found}, but it is {age:.1f} days old and retrain.days is {config.days:g}")
    return RetrainDecision(False, found)


def tell(name: str, measured: DriftMeasure) -> str:
    """A measure that has drifted, in a few words."""
    if measured.before is None or measured.now is None:
        return f"{NAMES[name]} (PSI {measured.moved:.2f})"
    return f"{NAMES[name]} {measured.before:.1%} -> {measured.now:.1%}"


def _newer(comparison: Comparison) -> str:
    if not comparison.rows:
        return "no newer interactions"
    return f"{comparison.rows:,} newer interactions of {comparison.users:,} users"
