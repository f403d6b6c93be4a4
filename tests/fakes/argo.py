"""Argo's rule for trying a pod again, as Argo 4.0.8 was seen to follow it under Kubeflow Pipelines 2.17."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What Kubeflow Pipelines' own manifests give every template: its policy holds where a step names none.
INSTALLED = {"limit": 2, "retryPolicy": "OnError"}
# By the node's phase: a pod that is gone is an Error; a container that exits other than 0, or is past its time, Failed.
_TRIED_AGAIN = {"OnError": {"Error"}, "OnFailure": {"Failed"}, "Always": {"Error", "Failed"}}


@dataclass(frozen=True)
class End:
    """How an attempt ended: Succeeded, Error or Failed, after so many seconds."""

    phase: str
    seconds: float


def attempts(task: Mapping[str, Any], ends: Sequence[End]) -> int:
    """How many attempts there are of a compiled task whose attempts end so, one after the other."""
    policy = task.get("retryPolicy", {})
    limit = policy.get("maxRetryCount", INSTALLED["limit"])
    pause, factor = _seconds(policy.get("backoffDuration", "0s")), policy.get("backoffFactor", 1.0)
    longest = _seconds(policy["backoffMaxDuration"]) if policy else float("inf")
    now = 0.0
    for number, end in enumerate(ends, start=1):
        now += end.seconds
        # counted from the start of the first
        over = now + pause > longest
        if end.phase not in _TRIED_AGAIN[str(INSTALLED["retryPolicy"])] or number > limit or over:
            return number
        now += pause
        pause *= factor
    raise AssertionError("the last end given would be followed by another attempt")


def _seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))
