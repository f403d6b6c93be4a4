"""What went wrong in a run, told by step, traceback and log."""

from __future__ import annotations

from pathlib import Path

from pipeline.local.progress import states
from pipeline.local.run_folder import RunFolder
from pipeline.steps import STEPS

_TAIL_LINES = 20


def explain_failure(run: RunFolder) -> str:
    """Every failed step with its traceback and log; where no step says so, the end of what was logged."""
    told = {step: state for step, state in states(run).items() if state.get("state") in ("failed", "running")}
    parts = [_explain(run, step, told[step]) for step in STEPS if step in told]
    if not parts:
        parts = [f"The run failed outside its steps. The end of {run.pipeline_log}:\n\n{_tail(run.pipeline_log)}"]
    return "\n\n".join([*parts, "Once mended, `sella run --resume` goes on from the steps that have finished."])


def _explain(run: RunFolder, step: str, state: dict[str, str]) -> str:
    log = run.log_of(step)
    if state["state"] == "failed":
        return f"Step {step} failed.\n\n{state['error'].rstrip()}\n\nIts log: {log}"
    return (
        f"Step {step} was killed, perhaps for want of memory, each time it was tried. The end of its log:\n\n"
        f"{_tail(log)}\n\nIts log: {log}"
    )


def _tail(path: Path) -> str:
    with path.open(errors="replace") as file:
        return "".join(file.readlines()[-_TAIL_LINES:]).rstrip()
