"""Running a step inside a KFP component: configuration, tracking, time and memory, checkpoints, logs.

The environment says where a step runs; all of it is optional, and only `sella run` sets the last three:
`MLFLOW_TRACKING_URI` and `KFP_RUN_ID` (tracking), `SELLA_PATIENCE` (seconds to wait for services that are away),
`SELLA_TERMINATION_LOG` (see `failure_reason`), `SELLA_CHECKPOINTS` (a folder that outlives a killed attempt, a mounted
volume on a cluster), `SELLA_PROGRESS` and `SELLA_LOGS` (folders of the run), `SELLA_LOCK` (see `supervision`).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sella_rec.config import BackboneConfig, Config
from sella_rec.runtime.checkpoint_store import CheckpointStoreError, open_checkpoint_store
from sella_rec.runtime.checkpoints import checkpoint_folder
from sella_rec.runtime.failure_reason import tell_failure
from sella_rec.runtime.supervision import exit_with_runner, peak_rss_mb, redirect_output
from sella_rec.tracking import runs as mlflow_runs
from sella_rec.tracking.progress_file import ProgressFile, read_progress
from sella_rec.tracking.tracker import StepTracker
from sella_rec.transient import be_patient

STEPS_FILE = "steps.json"
log = logging.getLogger(__name__)


@dataclass
class Step:
    """What a component hands to its step's function.

    Attributes:
        inputs: local paths of the input artifacts by name.
        before: time and memory of every step that this one builds on, by name.
        result: small JSON values that the runner shows (promote: model, decision; check-drift: whether to train, why).
    """

    name: str
    config: Config
    code_version: str
    inputs: dict[str, Path]
    before: dict[str, dict[str, Any]]
    tracker: StepTracker
    run: mlflow_runs.StepRun | None
    result: dict[str, Any] = field(default_factory=dict)
    _output: Path | None = None
    _checkpoints: Path | None = None

    @property
    def output(self) -> Path:
        """Where the step writes its folder."""
        assert self._output is not None, f"{self.name} was given no output"
        return self._output

    @property
    def checkpoints(self) -> Path:
        """A folder for this very work: same step, configuration, code and inputs; removed once it has succeeded.

        Copies on `launch.checkpoint_uri`, under the same name, go with it.
        """
        if self._checkpoints is None:
            root = os.environ.get("SELLA_CHECKPOINTS")
            if root is None:
                if self.config.launch.checkpoint_uri is None:
                    log.warning(
                        "neither SELLA_CHECKPOINTS nor launch.checkpoint_uri is set: a killed attempt of %s starts "
                        "again from nothing",
                        self.name,
                    )
                root = tempfile.mkdtemp(prefix="sella-checkpoints-")
            key = (self.name, self.config.to_json(), self.code_version)
            self._checkpoints = checkpoint_folder(Path(root), key, self.inputs)
        return self._checkpoints

    def log_data(self, folder: Path) -> None:
        """Log a prepared data set as input of the pipeline's run."""
        if self.run is not None:
            mlflow_runs.log_data(self.run, folder)

    def log_outcome(self, evaluation: Path) -> None:
        """Log the comparison of the arms to the pipeline's run."""
        if self.run is not None:
            mlflow_runs.log_outcome(self.run, evaluation)

    def log_decision(self, page: str | Path, tags: Mapping[str, str]) -> None:
        """Log what became of the model to the step's and the pipeline's run."""
        if self.run is not None:
            mlflow_runs.log_decision(self.run, Path(page), tags)


@contextmanager
def running(
    name: str, config: str, code_version: str, inputs: Mapping[str, str] | None = None, output: str | None = None
) -> Iterator[Step]:
    """Everything around a step's own work; imports of heavy libraries belong inside the block.

    Args:
        name: the step's, with hyphens.
        config: the configuration as JSON.
        code_version: part of what makes checkpoints and cached results valid.
        inputs: paths of the input artifacts.
        output: path of the output folder; `steps.json` is added to it, time and memory of this step and all before it.
    """
    exit_with_runner()
    progress = _begin(name)
    paths = {key: Path(value) for key, value in (inputs or {}).items()}
    started = time.monotonic()
    run: mlflow_runs.StepRun | None = None
    try:
        parsed = Config.from_json(config)
        stay_offline_if_local(parsed.backbone)
        if parsed.deterministic:
            from sella_rec.runtime.determinism import make_deterministic

            make_deterministic()
        run = mlflow_runs.open_step_run(name, parsed, code_version)
        before = _steps_before(paths)
        if run is not None:
            mlflow_runs.link_reused(run, before)
        tracker = StepTracker(progress, run)
        step = Step(name, parsed, code_version, paths, before, tracker, run, _output=Path(output) if output else None)
        yield step
        step.tracker.flush()
    except SystemExit:
        # asked to end before its time (see `preemption`): no failure, and worth another attempt
        if run is not None:
            mlflow_runs.close_step_run("KILLED")
        raise
    except BaseException as error:
        if progress is not None:
            progress.finish("failed", error=traceback.format_exc())
        tell_failure(error, name, run)
        raise
    _succeed(step, round(time.monotonic() - started, 2), progress)


def _begin(name: str) -> ProgressFile | None:
    be_patient()
    logs, states = os.environ.get("SELLA_LOGS"), os.environ.get("SELLA_PROGRESS")
    if logs:
        redirect_output(Path(logs) / f"{name}.log")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    if not states:
        return None
    path = Path(states) / f"{name}.json"
    if read_progress(path).get("state") == "failed":
        # On one machine an exception comes back every time; only a killed attempt is worth another.
        raise SystemExit(f"{name} has raised an error in this run and is not tried again")
    progress = ProgressFile(path)
    progress.start()
    return progress


def stay_offline_if_local(backbone: BackboneConfig) -> None:
    """Where the backbone is on disk, keep Hugging Face's libraries off the network; call before importing them."""
    if backbone.name.startswith("embedded:") or Path(backbone.name).is_dir():
        os.environ["HF_HUB_OFFLINE"] = "1"


def _steps_before(inputs: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    before: dict[str, dict[str, Any]] = {}
    for path in inputs.values():
        file = path / STEPS_FILE
        if file.is_file():
            before |= json.loads(file.read_text())
    return before


def _clear_copies(config: Config, checkpoints: Path) -> None:
    store = open_checkpoint_store(config.launch, checkpoints)
    if store is None:
        return
    try:
        store.clear()
    except CheckpointStoreError as error:
        # the work is done: what is left there costs space and no more
        log.warning("copies of checkpoints are left behind: %s", error)


def _succeed(step: Step, seconds: float, progress: ProgressFile | None) -> None:
    own: dict[str, Any] = {
        "seconds": seconds,
        "peak_rss_mb": peak_rss_mb(),
        "run": os.environ.get("KFP_RUN_ID"),
        "mlflow_run_id": step.run.run_id if step.run else None,
    }
    if step._output is not None:
        (step._output / STEPS_FILE).write_text(json.dumps(step.before | {step.name: own}, indent=2))
    if step._checkpoints is not None:
        shutil.rmtree(step._checkpoints, ignore_errors=True)
        _clear_copies(step.config, step._checkpoints)
    if step.run is not None:
        step.run.client.log_metric(step.run.run_id, "seconds", seconds)
        step.run.client.log_metric(step.run.run_id, "peak_rss_mb", own["peak_rss_mb"])
        mlflow_runs.close_step_run("FINISHED")
    if progress is not None:
        tracked = {"experiment": step.run.experiment, "run_id": step.run.parent_id} if step.run else None
        paths = {name: str(path) for name, path in step.inputs.items()}
        progress.finish("done", inputs=paths, result=step.result, mlflow=tracked, **own)
