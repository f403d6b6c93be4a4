"""MLflow runs of a pipeline run: one parent, one child per step, found by tags and never by name.

A run injected by the platform (`MLFLOW_RUN_ID`, as Kubeflow Pipelines' MLflow plug-in does per task) is attached to;
runs are made only where none is given. The plug-in makes a run for every level of the DAG, and names the outermost in
`KFP_MLFLOW_CONFIG`: that one is the pipeline's, and those between are tagged as groups. `KFP_RUN_ID` names the pipeline
run: a retried or resumed step finds its run by it. `SELLA_MLFLOW_TRACKING_URI` (and `_USERNAME`, `_PASSWORD`) names the
server where the platform injects none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sella_rec.addresses import shown
from sella_rec.config import Config
from sella_rec.environment import GIT_COMMIT, IMAGE_DIGEST, PIPELINE_RUN
from sella_rec.names import EXPERIMENT
from sella_rec.tracking.outcome import outcome_of
from sella_rec.tracking.server import TrackingError, prepare_client
from sella_rec.tracking.shared_writes import log_inputs, log_params, set_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN_TAG, STEP_TAG, CODE_TAG = "sella.run", "sella.step", "sella.code_version"
RETRAIN_TAG = "sella.retrain"
PARENT_TAG = "mlflow.parentRunId"
_PARENT_STEP, _GROUP_STEP = "pipeline", "group"
_PLATFORM_CONFIG = "KFP_MLFLOW_CONFIG"
SERVER_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
NOTE_TAG = "mlflow.note.content"


@dataclass(frozen=True)
class StepRun:
    """A step's child run and the pipeline's run above it.

    Attributes:
        parent_id: of the pipeline's run; none where the platform injected a run that has no parent.
        resumed: the run held something before this attempt.
    """

    client: MlflowClient
    experiment: str
    parent_id: str | None
    run_id: str
    resumed: bool

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> StepRun:
        """The run that `to_dict` described, for a process that reports to it and neither begins nor ends it."""
        _find_server()
        from mlflow import MlflowClient

        return cls(MlflowClient(), **described)

    def to_dict(self) -> dict[str, Any]:
        """For `from_dict`, in another process."""
        return {name: getattr(self, name) for name in ("experiment", "parent_id", "run_id", "resumed")}

    def log_params(self, params: Mapping[str, str]) -> None:
        log_params(self.client, self.run_id, params)

    def logged_params(self) -> set[str]:
        return set(self.client.get_run(self.run_id).data.params)

    def run_ids(self) -> list[str]:
        """Ids of parent (where there is one) and child."""
        return [run_id for run_id in (self.parent_id, self.run_id) if run_id]


def open_step_run(step: str) -> StepRun | None:
    """Find or create the runs of a step, and make the child the active run with system metrics.

    Args:
        config: none for a step that failed before it had one; the parent is not described then.

    Returns:
        None if `MLFLOW_TRACKING_URI` is not set: then nothing is tracked.

    Raises:
        TrackingError: the server does not answer.
    """
    if not _find_server():
        return None
    import mlflow

    try:
        run = _find_or_make(step)
        mlflow.set_system_metrics_sampling_interval(5)
        mlflow.start_run(run_id=run.run_id, log_system_metrics=True)
    except mlflow.MlflowException as error:
        uri = os.environ["MLFLOW_TRACKING_URI"]
        raise TrackingError(f"MLFLOW_TRACKING_URI = {uri} cannot be used: {error}") from error
    return run


def _find_server() -> bool:
    """Whether there is a server; the cluster's own is used if none is injected."""
    prepare_client()
    if "MLFLOW_TRACKING_URI" not in os.environ:
        given = {name: os.environ[f"SELLA_{name}"] for name in SERVER_VARIABLES if f"SELLA_{name}" in os.environ}
        os.environ.update(given)
    return "MLFLOW_TRACKING_URI" in os.environ


def _find_or_make(step: str) -> StepRun:
    from mlflow import MlflowClient

    client = MlflowClient()
    injected = os.environ.get("MLFLOW_RUN_ID")
    if injected:
        return _attach(client, injected, step)
    experiment_id, experiment = _experiment(client)
    pipeline_run = os.environ[PIPELINE_RUN]
    parent, _ = _by_tags(client, experiment_id, pipeline_run, _PARENT_STEP, f"sella-rec {pipeline_run}", {})
    if parent.info.status != "RUNNING":
        client.update_run(parent.info.run_id, status="RUNNING")
    child, found = _by_tags(client, experiment_id, pipeline_run, step, step, {PARENT_TAG: parent.info.run_id})
    return StepRun(client, experiment, parent.info.run_id, child.info.run_id, found)


def _attach(client: MlflowClient, run_id: str, step: str) -> StepRun:
    """The run that the platform made for this step; the levels between it and the pipeline's run become groups."""
    run = client.get_run(run_id)
    experiment = client.get_experiment(run.info.experiment_id).name
    set_tags(client, run_id, _tags(step))
    given = _given_root()
    above = _runs_above(client, run, given)
    root = given or (above[-1].info.run_id if above else None)
    for each in above:
        if STEP_TAG not in each.data.tags:
            set_tags(client, each.info.run_id, _tags(_PARENT_STEP if each.info.run_id == root else _GROUP_STEP))
    return StepRun(client, experiment, root, run_id, STEP_TAG in run.data.tags)


def _given_root() -> str | None:
    """Id of the pipeline's run where the platform says it."""
    given = os.environ.get(_PLATFORM_CONFIG)
    try:
        return json.loads(given).get("parentRunId") if given else None
    except (ValueError, AttributeError) as error:
        raise TrackingError(f"{_PLATFORM_CONFIG} = {given}, from the platform's plug-in, is no JSON object") from error


def _tags(step: str) -> dict[str, str]:
    """By which a run that the platform made is found, as those made here are."""
    run = os.environ.get(PIPELINE_RUN)
    return {STEP_TAG: step} | ({RUN_TAG: run} if run else {})


def pipeline_run_of(client: MlflowClient, run_id: str) -> Run:
    """The pipeline's run that a step's run belongs to, however many levels above; else the run itself."""
    run = client.get_run(run_id)
    return [run, *_runs_above(client, run)][-1]


def _runs_above(client: MlflowClient, run: Run, root: str | None = None) -> list[Run]:
    """The runs that a run lies in, from the nearest to the pipeline's: `root`, the one tagged so, or the outermost."""
    above: list[Run] = []
    while PARENT_TAG in run.data.tags and run.info.run_id != root and run.data.tags.get(STEP_TAG) != _PARENT_STEP:
        run = client.get_run(run.data.tags[PARENT_TAG])
        above.append(run)
    return above


def _experiment(client: MlflowClient) -> tuple[str, str]:
    """Id and name: the injected experiment, or `MLFLOW_EXPERIMENT_NAME`, or `sella-rec`; created if missing."""
    from mlflow import MlflowException

    given = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if given:
        return given, client.get_experiment(given).name
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id, name
    local = os.environ["MLFLOW_TRACKING_URI"].startswith("sqlite:")
    place = Path("mlartifacts").absolute().as_uri() if local else None
    try:
        return client.create_experiment(name, place), name
    except MlflowException:
        # another step was first
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id, name


def _by_tags(
    client: MlflowClient, experiment_id: str, pipeline_run: str, step: str, name: str, more: dict[str, str]
) -> tuple[Run, bool]:
    """The run with these tags and whether it was there already."""
    condition = f"tags.`{RUN_TAG}` = '{pipeline_run}' and tags.`{STEP_TAG}` = '{step}'"

    def oldest() -> Run | None:
        # ties of the clock are broken by id, so that every process picks the same
        found = client.search_runs([experiment_id], condition)
        return min(found, key=lambda run: (run.info.start_time, run.info.run_id), default=None)

    run = oldest()
    if run is not None:
        return run, True
    made = client.create_run(experiment_id, tags={RUN_TAG: pipeline_run, STEP_TAG: step, **more}, run_name=name)
    first = oldest() or made
    if first.info.run_id != made.info.run_id:
        # two steps started side by side and both made the parent
        client.delete_run(made.info.run_id)
    return first, False


def describe_pipeline_run(run: StepRun, config: Config, code_version: str) -> None:
    """Log the whole config, code version, commit and image to the pipeline's run, once; nothing where there is none.

    Raises:
        TrackingError: it holds other parameters already.
    """
    if run.parent_id is None or CODE_TAG in run.client.get_run(run.parent_id).data.tags:
        return
    tree = shown(config.model_dump(mode="json"))
    log_params(run.client, run.parent_id, flatten(tree))
    run.client.log_dict(run.parent_id, tree, "config.yaml")
    given = {"mlflow.source.git.commit": GIT_COMMIT, "sella.image": IMAGE_DIGEST}
    tags = {tag: os.environ[variable] for tag, variable in given.items() if os.environ.get(variable)}
    set_tags(run.client, run.parent_id, tags | {CODE_TAG: code_version})


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"fuse": {"learning_rate": 1}}` as `{"fuse.learning_rate": "1"}`."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return flat


def close_step_run(status: str) -> None:
    """End the active run as FINISHED, FAILED or KILLED."""
    import mlflow

    mlflow.end_run(status)


def close_pipeline_run(status: str | None) -> None:
    """End the parent of `KFP_RUN_ID` and whichever of its children still runs, as FINISHED, FAILED or KILLED.

    A run whose platform injected the steps' runs is left to the platform.

    Args:
        status: of the parent; none: as the steps' own runs have ended.
    """
    if not _find_server() or "MLFLOW_RUN_ID" in os.environ:
        return
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment_id, _ = _experiment(client)
    condition = f"tags.`{RUN_TAG}` = '{os.environ[PIPELINE_RUN]}'"
    found = client.search_runs([experiment_id], condition)
    if status is None:
        nothing_to_do = any(run.data.tags.get(RETRAIN_TAG) == "no" for run in found)
        steps = [(run.data.tags[STEP_TAG], run.info.status) for run in found]
        status = outcome_of(
            [(step, ended) for step, ended in steps if step not in (_PARENT_STEP, _GROUP_STEP)], nothing_to_do
        )
    for run in found:
        is_parent = run.data.tags[STEP_TAG] == _PARENT_STEP
        if is_parent or run.info.status == "RUNNING":
            # a child still running when the pipeline has ended was killed with its process
            client.set_terminated(run.info.run_id, status if is_parent or status != "FINISHED" else "KILLED")


def link_reused(run: StepRun, steps: Mapping[str, Mapping[str, Any]]) -> None:
    """Point from the parent to the runs of steps whose results came from the cache, and take over their data inputs."""
    if run.parent_id is None:
        return
    from mlflow import MlflowException
    from mlflow.entities import DatasetInput

    parent = run.client.get_run(run.parent_id)
    for step, entry in steps.items():
        origin, tag = entry.get("mlflow_run_id"), f"sella.reused.{step}"
        if entry["run"] == os.environ.get(PIPELINE_RUN) or not origin or tag in parent.data.tags:
            continue
        set_tags(run.client, run.parent_id, {tag: origin})
        try:
            inputs = run.client.get_run(origin).inputs
        except MlflowException:
            # the cached step was tracked on another server or its run has been deleted
            continue
        if inputs is not None:
            taken = [DatasetInput(i.dataset, i.tags) for i in inputs.dataset_inputs]
            log_inputs(run.client, run.parent_id, taken)
