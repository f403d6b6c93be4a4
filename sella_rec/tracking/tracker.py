"""What a step reports while it works: metrics, parameters and files to MLflow, progress to the local runner."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sella_rec.tracking.progress_file import ProgressFile

if TYPE_CHECKING:
    from sella_rec.tracking.runs import StepRun

_MAX_PARAM_LENGTH = 6000


class Tracker:
    """Passed to every step; `Tracker()` reports nowhere (tests, library use)."""

    def metrics(self, values: Mapping[str, float | None], step: int | None = None) -> None:
        """Log metrics of the step's child run, `step` being the x axis of a curve; None is left out."""

    def params(self, values: dict[str, Any]) -> None:
        """Log parameters of the step's child run."""

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file or a folder to the step's child run."""

    def progress(self, done: float, total: float, note: str = "") -> None:
        """Report the progress of a long loop."""


class StepTracker(Tracker):
    """Reports to a progress file and to an MLflow run, either of which may be missing.

    Metrics travel in the background, so that a slow server does not slow training. A run that continues after a kill
    keeps the curve points it has: points up to the last one are not logged twice.
    """

    def __init__(self, progress: ProgressFile | None = None, run: StepRun | None = None):
        self._progress = progress
        self._run = run
        self._pending: list[Any] = []
        self._last_step: dict[str, int] = {}
        self._params = run.logged_params() if run and run.resumed else set()

    def metrics(self, values: Mapping[str, float | None], step: int | None = None) -> None:
        if self._run is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        named = {_metric_name(name): float(value) for name, value in values.items() if value is not None}
        batch = [
            Metric(name, value, now, step or 0)
            for name, value in named.items()
            if math.isfinite(value) and (step is None or step > self._logged_until(name))
        ]
        if batch:
            self._pending.append(self._run.client.log_batch(self._run.run_id, metrics=batch, synchronous=False))

    def params(self, values: dict[str, Any]) -> None:
        if self._run is None:
            return
        new = {name: str(value)[:_MAX_PARAM_LENGTH] for name, value in values.items() if name not in self._params}
        self._params |= set(new)
        self._run.log_params(new)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        if self._run is None:
            return
        if Path(path).is_dir():
            self._run.client.log_artifacts(self._run.run_id, str(path), folder)
        else:
            self._run.client.log_artifact(self._run.run_id, str(path), folder)

    def progress(self, done: float, total: float, note: str = "") -> None:
        if self._progress is not None:
            self._progress.loop(done, total, note)

    def flush(self) -> None:
        """Wait until everything logged has arrived.

        Raises:
            mlflow.exceptions.MlflowException: the server refused metrics.
        """
        pending, self._pending = self._pending, []
        for operation in pending:
            operation.wait()

    def _logged_until(self, name: str) -> int:
        assert self._run is not None
        if not self._run.resumed:
            return -1
        if name not in self._last_step:
            history = self._run.client.get_metric_history(self._run.run_id, name)
            self._last_step[name] = max((point.step for point in history), default=-1)
        return self._last_step[name]


def _metric_name(name: str) -> str:
    # MLflow refuses names with an @, as in recall@10
    return name.replace("@", "_at_")
