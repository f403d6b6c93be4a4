"""Running a step inside a KFP component: configuration, tracking, time and memory, checkpoints, logs.

The environment tells a step where it runs; every variable is optional. Locally and on a cluster: `MLFLOW_TRACKING_URI`
and `KFP_RUN_ID` (see `sella_rec.tracking.runs`), `SELLA_CHECKPOINTS` (a folder that outlives a killed attempt; on a
cluster a mounted volume). Locally only: `SELLA_PROGRESS` and `SELLA_LOGS` (folders of `sella run`), `SELLA_LOCK` (of
`sella run` and `sella recommend --all`, see `supervision`). For either: `SELLA_PATIENCE` (seconds to wait for services
that are away, see `transient`), `SELLA_TERMINATION_LOG` (see `failure_reason`).
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

from sella_rec.addresses import without_password
from sella_rec.config import READS, BackboneConfig, Config, ConfigError, merged, step_config
from sella_rec.environment import checkpoints_root, log_file, pipeline_run, progress_file
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
    """What a component passes to its step's function.

    Attributes:
        config: what the step reads of the configuration, and nothing else.
        settings: as `configure` wrote them.
        inputs: local paths of the input artifacts by name.
        before: time, memory and settings of every step that this one builds on, by name.
        result: small JSON values that the runner shows (promote: model, decision; check-drift: whether to train, why).
    """

    name: str
    config: Config
    settings: str
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
        """A folder for exactly this work: step, configuration, code and inputs; removed once the step has succeeded.

        Its copies at `launch.checkpoint_uri` are removed with it.
        """
        if self._checkpoints is None:
            root = checkpoints_root()
            if root is None:
                if self.config.launch.checkpoint_uri is None:
                    log.warning(
                        "neither SELLA_CHECKPOINTS nor launch.checkpoint_uri is set: if %s is killed, its next attempt "
                        "starts from the beginning",
                        self.name,
                    )
                root = Path(tempfile.mkdtemp(prefix="sella-checkpoints-"))
            self._checkpoints = checkpoint_folder(root, (self.name, self.settings), self.inputs)
        return self._checkpoints

    def run_config(self) -> Config:
        """The whole configuration of everything that this step's result comes from, itself included."""
        tree = json.loads(self.settings)["config"]
        for entry in self.before.values():
            tree = merged(tree, entry["config"])
        return Config.model_validate(tree)


@contextmanager
def running(
    name: str,
    settings: str,
    inputs: Mapping[str, str] | None = None,
    output: str | None = None,
    reads: str | None = None,
) -> Iterator[Step]:
    """Set up and close everything around a step's own work; import heavy libraries inside the block.

    Args:
        name: the step's, with hyphens.
        settings: what `configure` has for this step, JSON: `config`, what it reads of the configuration and differs
            from the defaults, and what else makes checkpoints and cached results valid.
        inputs: paths of the input artifacts.
        output: path of the output folder; `steps.json` is added to it: time, memory and settings of this step and all
            before it.
        reads: its key in `READS`, where that is not its name.
    """
    exit_with_runner()
    progress = _begin(name)
    paths = {key: Path(value) for key, value in (inputs or {}).items()}
    started = time.monotonic()
    run: mlflow_runs.StepRun | None = None
    try:
        reads = reads or name
        parsed = step_config(reads, _parsed(settings))
        if "backbone" in READS[reads]:
            stay_offline_if_local(parsed.backbone)
        if "deterministic" in READS[reads] and parsed.deterministic:
            from sella_rec.runtime.determinism import make_deterministic

            make_deterministic()
        run = mlflow_runs.open_step_run(name)
        before = _steps_before(paths)
        if run is not None:
            mlflow_runs.link_reused(run, before)
        tracker = StepTracker(progress, run)
        step = Step(name, parsed, settings, paths, before, tracker, run, _output=Path(output) if output else None)
        yield step
        step.tracker.flush()
    except SystemExit:
        # stopped early (see `preemption`): not a failure, and worth another attempt
        if run is not None:
            mlflow_runs.close_step_run("KILLED")
        raise
    except BaseException as error:
        if progress is not None:
            progress.finish("failed", error=without_password(traceback.format_exc()))
        tell_failure(error, name, run)
        raise
    _succeed(step, round(time.monotonic() - started, 2), progress)


def whole_settings(config: str, code_version: str = "") -> str:
    """Settings of a first step, which has the run's configuration from its parameters."""
    # as text: what is wrong with it is told as any other of the step's errors
    return f'{{"config": {config}, "code_version": "{code_version}"}}'


def _parsed(settings: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(settings)["config"]
    except json.JSONDecodeError as error:
        raise ConfigError(f"the parameter config is not JSON: {error}; submit it by `sella submit`") from error
    return config


def _begin(name: str) -> ProgressFile | None:
    be_patient()
    log_path, path = log_file(name), progress_file(name)
    if log_path:
        redirect_output(log_path)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    if path is None:
        return None
    if read_progress(path).get("state") == "failed":
        # on one machine an exception would recur; only a killed attempt is worth another
        raise SystemExit(f"{name} has already failed in this run; it is not retried")
    progress = ProgressFile(path)
    progress.start()
    return progress


def stay_offline_if_local(backbone: BackboneConfig) -> None:
    """Keep Hugging Face's libraries off the network if the backbone is on disk; call before importing them."""
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
    try:
        store = open_checkpoint_store(config.launch, checkpoints)
        if store is not None:
            store.clear()
    except CheckpointStoreError as error:
        # the work is done: what is left there only takes up space
        log.warning("copies of checkpoints were not removed: %s", error)


def _succeed(step: Step, seconds: float, progress: ProgressFile | None) -> None:
    own: dict[str, Any] = {
        "seconds": seconds,
        "peak_rss_mb": peak_rss_mb(),
        "run": pipeline_run(),
        "mlflow_run_id": step.run.run_id if step.run else None,
        "config": json.loads(step.settings)["config"],
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
