"""A training step's work, described for other processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sella_rec.errors import UserError
from sella_rec.runtime.step import Step

Work = Callable[[Step], None]
WORKER = "sella_rec.runtime.worker"


class DistributedTrainingError(RuntimeError):
    """A training in other processes cannot begin or continue; the message says why."""


class TrainingDiedError(DistributedTrainingError):
    """A process of a training failed or was killed; the message holds the first one's error."""


class TrainingUserError(UserError):
    """A process of a training met an error that its user can fix; the message is that error's."""


def user_error_file(job: Path) -> Path:
    """Where a process leaves the message of a `UserError`, beside its description of the work."""
    return job.with_name("user-error.txt")


def raise_user_error(job: Path) -> None:
    """Raise what a process has left, if one has.

    Raises:
        TrainingUserError: one has.
    """
    file = user_error_file(job)
    if file.exists():
        raise TrainingUserError(file.read_text())


def describe(work: Work, step: Step, inputs: dict[str, Path], output: Path, checkpoints: Path) -> dict[str, Any]:
    """A training as JSON, for `worker` to run: inputs and outputs at the paths that its processes see."""
    return {
        "work": f"{work.__module__}:{work.__qualname__}",
        "name": step.name,
        "settings": step.settings,
        "before": step.before,
        "inputs": {name: str(path) for name, path in inputs.items()},
        "output": str(output),
        "checkpoints": str(checkpoints),
        "run": step.run.to_dict() if step.run else None,
    }
