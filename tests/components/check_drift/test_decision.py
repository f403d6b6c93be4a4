"""What the policy says, in every case it can meet, and in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.check_drift.comparison import Comparison, DriftMeasure
from components.check_drift.decision import Champion, decide
from sella_rec.config import RetrainConfig

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)


def champion(days: float = 1) -> Champion:
    return Champion("sella-rec version 3", NOW - timedelta(days=days), Path("somewhere"))


def comparison(*drifted: str, rows: int = 1200) -> Comparison:
    share = DriftMeasure(0.61, 0.48, -0.13, 0.05, 0.0005, "like_rate" in drifted, ["dislike", "like"], ([], []))
    words = DriftMeasure(None, None, 0.31, 0.2, 0.0005, "title_words" in drifted, [], ([], []))
    return Comparison(0, 7, 7, rows, min(rows, 56), {"like_rate": share, "title_words": words} if rows else {})


@pytest.mark.parametrize(
    ("policy", "days", "drifted", "retrain"),
    [
        ("always", 1, [], True),
        ("on-drift", 100, [], False),
        ("on-drift", 1, ["like_rate"], True),
        ("on-drift-or-days", 29.9, [], False),
        ("on-drift-or-days", 30, [], True),
        ("on-drift-or-days", 1, ["title_words"], True),
    ],
)
def test_the_policy_decides(policy, days, drifted, retrain):
    assert decide(RetrainConfig(policy=policy), champion(days), comparison(*drifted), NOW).retrain == retrain


@pytest.mark.parametrize("policy", ["always", "on-drift", "on-drift-or-days"])
def test_where_nothing_can_be_compared_every_policy_trains(policy):
    config = RetrainConfig(policy=policy)
    first = decide(config, None, None, NOW)
    assert first.retrain
    assert "no champion" in first.reason
    bare = decide(config, champion(), None, NOW)
    assert bare.retrain
    assert "sella-rec version 3 has no training reference" in bare.reason


def test_reasons_name_what_moved_or_how_much_was_looked_at():
    config = RetrainConfig(policy="on-drift-or-days", days=7)
    moved = decide(config, champion(), comparison("like_rate", "title_words"), NOW).reason
    assert moved == (
        "drift since sella-rec version 3: share of likes 61.0% -> 48.0%, words in the rated titles (PSI 0.31)"
    )
    quiet = decide(config, champion(), comparison(), NOW).reason
    assert quiet == "no drift since sella-rec version 3 (1,200 newer interactions of 56 users)"
    still = decide(config, champion(), comparison(rows=0), NOW).reason
    assert still == "no drift since sella-rec version 3 (no newer interactions)"
    old = decide(config, champion(8.04), comparison(), NOW).reason
    assert old == f"{quiet}, but it is 8.0 days old and retrain.days is 7"
