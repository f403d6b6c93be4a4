"""What a step reports while it works: metrics, parameters and files to MLflow, progress to whoever watches."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Tracker:
    """Handed to every step; `Tracker()` reports nowhere (tests, library use)."""

    def metrics(self, values: dict[str, float], step: int | None = None) -> None:
        """Log metrics of the step's child run, `step` being the x axis of a curve."""

    def params(self, values: dict[str, Any]) -> None:
        """Log parameters of the step's child run."""

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file or a folder to the step's child run."""

    def progress(self, done: float, total: float, note: str = "") -> None:
        """Say how far a long loop is."""
