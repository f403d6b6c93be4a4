"""A training step's work, described for other processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sella_rec.runtime.step import Step

Work = Callable[[Step], None]
WORKER = "sella_rec.runtime.worker"


class DistributedTrainingError(RuntimeError):
    """A process of a distributed training failed; the message holds the first one's error."""


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
