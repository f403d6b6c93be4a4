"""How a pipeline run ended, from how its steps did."""

from __future__ import annotations

from collections.abc import Sequence

# of the two pipelines
_LAST_STEPS = {"promote", "summarize"}


def outcome_of(steps: Sequence[tuple[str, str]], nothing_to_do: bool) -> str:
    """FINISHED, FAILED or KILLED.

    Args:
        steps: name and MLflow's status of each step's run, of a step in shards several; one that still runs was killed
            with its pod.
        nothing_to_do: check-drift has ended the run, and well.
    """
    started, statuses = {step for step, _ in steps}, {status for _, status in steps}
    if "FAILED" in statuses:
        return "FAILED"
    if statuses - {"FINISHED"}:
        return "KILLED"
    return "FINISHED" if nothing_to_do or _LAST_STEPS & started else "FAILED"
