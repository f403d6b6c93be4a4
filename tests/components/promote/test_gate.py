"""The gate on planted models: what is better, equal or worse is known, since scores are drawn around the labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from components.promote.gate import PromotionDecision, decide
from components.promote.window import ScoredRows
from sella_rec.config import PromoteConfig
from sella_rec.metrics.calibration import calibration_error

WINDOWS, USERS, EACH = 200, 115, 6
SKILL = 0.6  # of the champion


def window(seed: int, skill: float, users: int = USERS) -> ScoredRows:
    """Both models see the truth blurred, `skill` being how far apart the challenger puts likes and dislikes.

    Half of the blur is common to both, as two models of the same people err alike. P(like) is exact for a logistic
    model, so both are well calibrated.
    """
    draw = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), EACH)
    label = (draw.random(len(user)) < 0.5).astype(np.int8)
    common = draw.normal(size=len(user))

    def scores(skill: float) -> np.ndarray:
        seen = skill * (label - 0.5) + (common + draw.normal(size=len(user))) / np.sqrt(2)
        return 1 / (1 + np.exp(-skill * seen))

    champion = scores(SKILL)
    return ScoredRows(user, label, draw.random(len(user)) < 0.1, scores(skill), {"champion": champion})


def judge(
    rows: ScoredRows, config: PromoteConfig | None = None, tolerance: float = 0.0, seed: int = 0
) -> PromotionDecision:
    return decide(rows, config or PromoteConfig(), tolerance, samples=200, seed=seed)


def promoted(skill: float, tolerance: float = 0.0, windows: int = WINDOWS) -> int:
    """In how many windows."""
    return sum(judge(window(seed, skill), None, tolerance, seed).promoted for seed in range(windows))


def test_a_better_model_is_promoted():
    assert promoted(SKILL + 0.8, windows=50) == 50


def test_an_equal_model_is_promoted_in_at_most_five_per_cent_of_the_windows():
    assert 0 < promoted(SKILL) <= 0.05 * WINDOWS


def test_a_worse_model_is_never_promoted():
    assert promoted(SKILL - 0.3, windows=100) == 0


def test_with_a_tolerance_an_equal_model_may_pass_and_a_worse_one_does_not():
    config = PromoteConfig(max_auc_loss=0.1)
    equal = [judge(window(seed, SKILL), config, 0.05, seed) for seed in range(50)]
    assert sum(decision.promoted for decision in equal) > 15
    # never while it looks worse
    assert all(decision.checks[1].measured.difference >= 0 for decision in equal if decision.promoted)
    assert promoted(SKILL - 0.5, tolerance=0.05, windows=50) == 0


def failed(decision: PromotionDecision) -> set[str]:
    assert decision.promoted == all(check.passed for check in decision.checks)
    return {check.name for check in decision.checks if not check.passed}


@pytest.fixture
def better() -> ScoredRows:
    return window(0, SKILL + 0.8)


def test_the_reason_holds_the_numbers(better):
    decision = judge(better)
    found = decision.checks[1].measured
    assert failed(decision) == set()
    assert f"{found.challenger:.4f} to {found.of_rival:.4f}, {found.difference:+.4f}" in decision.reason
    assert found.interval[0] < found.difference < found.interval[1]
    worse = judge(replace(better, challenger=better.rivals["champion"], rivals={"MF": better.challenger}))
    assert "UAUC against MF" in worse.reason
    assert "required: interval above 0" in worse.reason


def test_every_rival_has_to_be_beaten(better):
    rivals = {"MF": better.rivals["champion"], "LightGCN": better.challenger}
    decision = judge(replace(better, rivals=rivals))
    assert not decision.promoted
    assert [check.measured.rival for check in decision.checks if not check.passed] == ["LightGCN"]


def test_too_few_users_forbid(better):
    assert failed(judge(better, PromoteConfig(min_users=USERS + 1))) == {"test users with likes and dislikes"}


def test_probabilities_that_mean_nothing_forbid(better):
    """The same order, pushed to one end: every ranking measure stays, calibration goes."""
    pushed = replace(better, challenger=0.9 + better.challenger / 10)
    decision = judge(pushed)
    assert failed(decision) == {"calibration error"}
    assert decision.checks[-1].measured.challenger == pytest.approx(calibration_error(pushed.label, pushed.challenger))


def test_a_loss_on_cold_items_beyond_chance_forbids(better):
    guessed = np.random.default_rng(1).random(len(better.user))
    cold = np.random.default_rng(2).random(len(better.user)) < 0.15
    # the champion knows the cold items well, the challenger guesses
    known = np.where(cold, 0.5 + 0.4 * (better.label - 0.5), better.rivals["champion"])
    guessing = replace(
        better, cold=cold, challenger=np.where(cold, guessed, better.challenger), rivals={"champion": known}
    )
    config = PromoteConfig(max_calibration_error=1, max_auc_loss=1)
    assert failed(judge(guessing, config, 1.0)) >= {"AUC on cold items"}
    assert "AUC on cold items" not in failed(judge(replace(guessing, cold=~cold), config, 1.0))


def test_without_cold_items_their_check_cannot_fail(better):
    decision = judge(replace(better, cold=np.zeros_like(better.cold)))
    assert failed(decision) == set()


def test_a_window_of_one_class_promotes_nothing(better):
    decision = judge(replace(better, label=np.ones_like(better.label)))
    assert failed(decision) >= {"UAUC", "test users with likes and dislikes"}


def test_an_auc_loss_forbids_though_every_users_order_is_better(better):
    """Users shifted against each other: UAUC does not see it, AUC does."""
    shift = np.random.default_rng(3).normal(size=USERS)[better.user] * 3
    logit = np.log(better.challenger / (1 - better.challenger)) + shift
    decision = judge(replace(better, challenger=1 / (1 + np.exp(-logit))), PromoteConfig(max_calibration_error=1))
    assert failed(decision) == {"AUC"}
