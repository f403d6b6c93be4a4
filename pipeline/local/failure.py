"""What went wrong in a run: step, traceback and log."""

from __future__ import annotations

from pathlib import Path

from pipeline.local.progress import states
from pipeline.local.run_folder import RunFolder
from pipeline.steps import STEPS

_TAIL_LINES = 20


def explain_failure(run: RunFolder) -> str:
    """Every failed step with its traceback and log; if no step has failed, the end of the pipeline's log."""
    failed = {step: state for step, state in states(run).items() if state.get("state") in ("failed", "running")}
    parts = [_explain(run, step, failed[step]) for step in STEPS if step in failed]
    if not parts:
        parts = [f"The run failed outside its steps. The end of {run.pipeline_log}:\n\n{_tail(run.pipeline_log)}"]
    return "\n\n".join([*parts, "After fixing the cause, continue from the finished steps with `sella run --resume`."])


def _explain(run: RunFolder, step: str, state: dict[str, str]) -> str:
    log = run.log_of(step)
    if state["state"] == "failed":
        return f"Step {step} failed.\n\n{state['error'].rstrip()}\n\nFull log: {log}"
    return (
        f"Step {step} was killed in every attempt, possibly for lack of memory. The end of its log:\n\n"
        f"{_tail(log)}\n\nFull log: {log}"
    )


def _tail(path: Path) -> str:
    with path.open(errors="replace") as file:
        return "".join(file.readlines()[-_TAIL_LINES:]).rstrip()
