"""The gate: whether a challenger replaces the champion, decided on test rows that both have scored.

Whole users are resampled and every model is scored on the same draws (`sella_rec.metrics.bootstrap`), so what is hard
for all of them cancels. UAUC decides; AUC, cold items, calibration and the number of users can only forbid.

With a tolerance of 0, the lower end of the 95 % interval of the UAUC difference must be above 0: a model that is only
as good passes in 2.5 % of all windows. Above 0 it is a test of non-inferiority: being as good is enough, as long as the
observed difference is not negative.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from components.promote.window import ScoredRows
from sella_rec.config import PromoteConfig
from sella_rec.metrics.bootstrap import Interval, Metric, bootstrap
from sella_rec.metrics.calibration import calibration_error
from sella_rec.metrics.ranking import evaluate_slice

_CHALLENGER = "challenger"


@dataclass(frozen=True)
class GateMeasure:
    """A measure of the challenger, and of a rival if there is one; None if the window has too few rows for it.

    Attributes:
        difference: challenger minus rival.
        interval: the difference's, 95 %.
    """

    challenger: float | None
    rival: str = ""
    of_rival: float | None = None
    difference: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class Check:
    """One rule, and whether the challenger passes it."""

    name: str
    rule: str
    passed: bool
    measured: GateMeasure

    def __str__(self) -> str:
        found, text = self.measured, self.name
        if found.rival:
            text += f" against {found.rival} {_number(found.challenger)} to {_number(found.of_rival)}"
        else:
            text += f" {_number(found.challenger)}"
        if found.difference is not None and found.interval is not None:
            text += f", {found.difference:+.4f} ({found.interval[0]:+.4f} to {found.interval[1]:+.4f})"
        return text if self.passed else f"{text}, required: {self.rule}"


@dataclass(frozen=True)
class PromotionDecision:
    """Whether the challenger is promoted, and why."""

    promoted: bool
    reason: str
    checks: list[Check] = field(default_factory=list)


def decide(window: ScoredRows, config: PromoteConfig, tolerance: float, samples: int, seed: int) -> PromotionDecision:
    """Compare the challenger with every rival.

    Args:
        window: test rows scored by all of them.
        config: the limits.
        tolerance: UAUC that the challenger may lose.
        samples: bootstrap resamples.
        seed: of the resamples.

    Returns:
        Promoted if every check passes; the reason gives the numbers of UAUC, or of the failed checks.

    Raises:
        ValueError: a score is NaN.
    """
    whole = _Comparison(window, np.ones(len(window.user), dtype=bool), samples, seed)
    cold = _Comparison(window, window.cold, samples, seed)
    checks = [_users(whole.users, config.min_users)]
    for rival in window.rivals:
        checks += [
            _uauc(whole.measure("uauc", rival), tolerance),
            _auc(whole.measure("auc", rival), config.max_auc_loss),
            _cold_items(cold.measure("auc", rival), config.max_cold_loss),
        ]
    checks.append(_calibration(window, config.max_calibration_error))
    failed = [check for check in checks if not check.passed]
    named = failed or [check for check in checks if check.name == "UAUC"]
    return PromotionDecision(not failed, "; ".join(str(check) for check in named), checks)


class _Comparison:
    """The challenger and its rivals on some of the window's rows."""

    def __init__(self, window: ScoredRows, rows: np.ndarray, samples: int, seed: int):
        scores = {_CHALLENGER: window.challenger, **window.rivals}
        scores = {name: score[rows] for name, score in scores.items()}
        user, label = window.user[rows], window.label[rows]
        self._values = {name: evaluate_slice(user, label, score) for name, score in scores.items()}
        self._resampled = bootstrap(user, label, scores, samples, seed)

    @property
    def users(self) -> int:
        """Number of users with both classes."""
        return int(self._values[_CHALLENGER]["users"] or 0)

    def measure(self, metric: Metric, rival: str) -> GateMeasure:
        """A metric of both, and their difference."""
        ours, theirs = self._values[_CHALLENGER][metric], self._values[rival][metric]
        difference = None if ours is None or theirs is None else ours - theirs
        return GateMeasure(ours, rival, theirs, difference, self._resampled.difference(_CHALLENGER, rival, metric))


def _users(users: int, least: int) -> Check:
    return Check(
        "test users with likes and dislikes",
        f"at least {least} (promote.min_users)",
        users >= least,
        GateMeasure(users),
    )


def _uauc(found: GateMeasure, tolerance: float) -> Check:
    rule = f"interval above {0 - tolerance:g} and difference not below 0"
    kept = found.interval is not None and found.interval[0] > -tolerance and (found.difference or 0) >= 0
    return Check("UAUC", rule, kept, found)


def _auc(found: GateMeasure, most: float) -> Check:
    kept = found.interval is not None and found.interval[0] > -most
    return Check("AUC", f"interval above {0 - most:g} (promote.max_auc_loss)", kept, found)


def _cold_items(found: GateMeasure, most: float) -> Check:
    # these rows are few: only a loss beyond chance counts
    lost = found.interval is not None and found.interval[1] < 0 and (found.difference or 0) < -most
    rule = f"no loss beyond chance of more than {most:g} (promote.max_cold_loss)"
    return Check("AUC on cold items", rule, not lost, found)


def _calibration(window: ScoredRows, most: float) -> Check:
    error = calibration_error(window.label, window.challenger)
    return Check(
        "calibration error", f"at most {most:g} (promote.max_calibration_error)", error <= most, GateMeasure(error)
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
