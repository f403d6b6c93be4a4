"""Folders of local runs: `runs/<id>/` for each, `runs/latest` for the last one that finished with a model."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sella_rec.errors import UserError
from sella_rec.outputs import writing_told

RUNS = Path("runs")
LATEST = RUNS / "latest"
CACHE = Path(".cache")
_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


class RunError(UserError):
    """A local run that cannot start or continue, or has failed; the message is for the user and says what to do."""


@dataclass(frozen=True)
class RunFolder:
    """One run's folder.

    Attributes:
        path: holds `config.yaml`, `summary.json`, `comparison.json`, `predictions.parquet`, `report.html`, `bundle/`,
            `promotion.html`, `drift.html`, `drift.json`, `logs/`; `steps/` (what the steps wrote) and `progress/` (what
            they said of themselves).
    """

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def request(self) -> Path:
        """The arguments of the pipeline, and where its cache is, as JSON."""
        return self.path / "request.json"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def pipeline_log(self) -> Path:
        return self.logs / "pipeline.log"

    @property
    def progress(self) -> Path:
        return self.path / "progress"

    @property
    def steps(self) -> Path:
        return self.path / "steps"

    def log_of(self, step: str) -> Path:
        return self.logs / f"{step}.log"


def make_runs_folder() -> None:
    """Make `runs/`; what is not ours in it stays.

    Raises:
        RunError: something else is in its place or in that of `runs/latest`: told now, not after hours of training.
    """
    for path, what, there in ((RUNS, "folder", RUNS.is_dir()), (LATEST, "link to a run", LATEST.is_symlink())):
        if os.path.lexists(path) and not there:
            fix = f"rename it (mv {path} {path}-kept), then start again"
            raise RunError(f"{path} is no {what}, and is kept as it is: {fix}")
    with writing_told(RUNS, "start in another folder"):
        RUNS.mkdir(exist_ok=True)


def new_run() -> RunFolder:
    """Make the folder of a new run, named by the time; the letters behind it tell apart runs on one MLflow server."""
    path = RUNS / f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    path.mkdir(parents=True)
    return RunFolder(path)


def last_run() -> RunFolder | None:
    """The run that was started last, finished or not."""
    # other folders there are not ours to continue: benchmarks keep their own, with a request.json too
    started = [path for path in RUNS.glob("*") if _NAME.fullmatch(path.name) and (path / "request.json").is_file()]
    return RunFolder(max(started, key=lambda path: path.name)) if started else None


def unfinished_run() -> RunFolder:
    """The last run, to continue.

    Raises:
        RunError: there is none, or it has finished.
    """
    run = last_run()
    if run is None:
        raise RunError("there is no run in runs/ to resume; start one with `sella run`")
    if run.summary.is_file():
        raise RunError(f"the last run, {run.path}, has finished; start a new one with `sella run`")
    return run


def point_latest_at(run: RunFolder) -> None:
    """Make `runs/latest` a link to a run, in one move."""
    link = RUNS / f".latest-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(run.id, target_is_directory=True)
    link.replace(LATEST)
