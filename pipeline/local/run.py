"""Runs the DAG on this machine: starts it in a separate process, watches it, and gathers its results."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from components.code_version import code_version
from pipeline.local.failure import explain_failure
from pipeline.local.progress import show_progress
from pipeline.local.run_folder import (
    CACHE,
    RUNS,
    RunError,
    RunFolder,
    make_runs_folder,
    new_run,
    point_latest_at,
    unfinished_run,
)
from pipeline.local.summary import gather
from pipeline.local.tracking import DEFAULT_TRACKING, open_tracking
from pipeline.versions import git_commit
from sella_rec.config import Config
from sella_rec.data.version import data_version
from sella_rec.environment import (
    CHECKPOINTS,
    GIT_COMMIT,
    LOCK,
    LOGS,
    MLFLOW_RUN,
    PIPELINE_RUN,
    PROGRESS,
    TRACKING_SERVER,
)
from sella_rec.runtime.supervision import raising_on_signals
from sella_rec.tracking.runs import close_pipeline_run

_POLL_SECONDS = 0.3
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """SIGTERM, SIGHUP or Ctrl-C; `code` is the exit code that shells expect."""

    def __init__(self, number: int):
        super().__init__()
        self.code = 128 + number


def start(config: Config, console: Console, cache: bool = True) -> RunFolder:
    """Run the pipeline from its start; steps whose results are cached are not run again, unless `cache` is off.

    Returns:
        The finished run's folder, to which `runs/latest` now points unless there was nothing to do.

    Raises:
        RunError: a step failed, or another run is active in this folder.
        DataError: the data cannot be found.
        TrackingError: MLflow cannot be used.
        Stopped: the user ended it.
    """
    with _only_run_here():
        versions = _versions(config)
        run = new_run()
        run.config.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        # without the cache, a run still needs one of its own, to be resumed from
        place = (CACHE if cache else run.path / "cache").absolute()
        request = {"arguments": {"config": config.to_json()}, "versions": versions, "cache": str(place)}
        run.request.write_text(json.dumps(request, indent=2))
        return _work(run, request, console)


def resume(console: Console) -> RunFolder:
    """Continue the last run, with its configuration: finished steps from the cache, training from its checkpoint.

    Returns and raises as `start`; RunError also if there is no unfinished run.
    """
    with _only_run_here():
        run = unfinished_run()
        request = json.loads(run.request.read_text())
        now = _versions(Config.from_json(request["arguments"]["config"]))
        if request["versions"] != now:
            console.print("The data or the code has changed since this run was started: what depends on it runs again.")
            request["versions"] = now
            run.request.write_text(json.dumps(request, indent=2))
        return _work(run, request, console)


def _versions(config: Config) -> dict[str, str]:
    return {"code_version": code_version(), "data_version": data_version(config.data)}


def _work(run: RunFolder, request: dict[str, Any], console: Console) -> RunFolder:
    started = time.monotonic()
    console.print(f"Run {run.id}: results in {run.path}/, logs in {run.logs}/")
    # reports of an earlier attempt are outdated
    shutil.rmtree(run.progress, ignore_errors=True)
    for folder in (run.progress, run.logs):
        folder.mkdir(exist_ok=True)
    with raising_on_signals(_ENDING, Stopped), tempfile.NamedTemporaryFile(prefix=".lock-", dir=run.path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ.update(_environment(run, Path(request["cache"]), Path(lock.name).absolute()))
        os.environ.pop(MLFLOW_RUN, None)
        # steps wait for a server longer than this command does
        environment = dict(os.environ)
        open_tracking()
        _execute(run, console, environment)
    if gather(run, round(time.monotonic() - started, 1)):
        point_latest_at(run)
    return run


def _execute(run: RunFolder, console: Console, environment: Mapping[str, str]) -> None:
    with run.pipeline_log.open("ab") as log:
        command = [sys.executable, "-m", "pipeline.local.executor", str(run.path)]
        # a session of its own, so that it can be ended with all its steps
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        with show_progress(run, console) as show:
            while process.poll() is None:
                show()
                time.sleep(_POLL_SECONDS)
            show()
    except BaseException as stopped:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        close_pipeline_run("KILLED" if isinstance(stopped, Stopped) else "FAILED")
        raise
    if process.returncode:
        # the exit handler has closed it already, unless the runner itself was killed
        close_pipeline_run("FAILED")
        raise RunError(explain_failure(run))


def _environment(run: RunFolder, cache: Path, lock: Path) -> dict[str, str]:
    environment = {
        PIPELINE_RUN: run.id,
        TRACKING_SERVER: os.environ.get(TRACKING_SERVER, DEFAULT_TRACKING),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        CHECKPOINTS: str(cache / "checkpoints"),
        PROGRESS: str(run.progress.absolute()),
        LOGS: str(run.logs.absolute()),
        LOCK: str(lock),
    }
    commit = git_commit()
    return environment | ({GIT_COMMIT: commit} if commit else {})


@contextmanager
def _only_run_here() -> Iterator[None]:
    make_runs_folder()
    with (RUNS / ".lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another `sella run` is active in {Path.cwd()}: wait until it has ended, or use another folder"
            ) from None
        yield
