"""MLflow runs of a pipeline run: one parent, one child per step, found by tags and never by name.

A run injected by the platform (`MLFLOW_RUN_ID`, as Kubeflow Pipelines' MLflow plug-in does per task) is attached to;
runs are made only where none is given. `KFP_RUN_ID` names the pipeline run: a retried or resumed step finds its run by
it. `SELLA_MLFLOW_TRACKING_URI` (and `_USERNAME`, `_PASSWORD`) names the server where the platform injects none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sella_rec.config import Config
from sella_rec.errors import UserError
from sella_rec.tracking.outcome import outcome_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "sella-rec"
RUN_TAG, STEP_TAG, CODE_TAG = "sella.run", "sella.step", "sella.code_version"
RETRAIN_TAG = "sella.retrain"
ERROR_TAG, ERROR_TYPE_TAG = "sella.error", "sella.error_type"
PARENT_TAG = "mlflow.parentRunId"
_PARENT_STEP = "pipeline"
SERVER_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
NOTE_TAG = "mlflow.note.content"
_PARAMS_PER_BATCH = 100
_TAG_LENGTH = 5000


class TrackingError(UserError):
    """MLflow cannot be reached or used; the message says where and what to do."""


@dataclass(frozen=True)
class StepRun:
    """A step's child run and the parent above it.

    Attributes:
        parent_id: none where the platform injected a run that has no parent.
        resumed: the run held something before this attempt.
    """

    client: MlflowClient
    experiment: str
    parent_id: str | None
    run_id: str
    resumed: bool

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> StepRun:
        """The run that `to_dict` tells of, for a process that reports to it and neither begins nor ends it."""
        _find_server()
        from mlflow import MlflowClient

        return cls(MlflowClient(), **described)

    def to_dict(self) -> dict[str, Any]:
        """For `from_dict`, in another process."""
        return {name: getattr(self, name) for name in ("experiment", "parent_id", "run_id", "resumed")}

    def log_params(self, params: Mapping[str, str]) -> None:
        _log_params(self.client, self.run_id, params)

    def logged_params(self) -> set[str]:
        return set(self.client.get_run(self.run_id).data.params)

    def run_ids(self) -> list[str]:
        """Ids of parent (where there is one) and child."""
        return [run_id for run_id in (self.parent_id, self.run_id) if run_id]


def open_step_run(step: str, config: Config | None, code_version: str) -> StepRun | None:
    """Find or make the runs of a step, describe the parent, and make the child the active run with system metrics.

    Args:
        config: none for a step that failed before it had one; the parent is not described then.

    Returns:
        None where `MLFLOW_TRACKING_URI` is not set: then nothing is tracked.

    Raises:
        TrackingError: the server does not answer.
    """
    if not _find_server():
        return None
    import mlflow

    try:
        run = _find_or_make(step)
        if run.parent_id and config is not None:
            describe_parent(run.client, run.parent_id, config, code_version)
        mlflow.set_system_metrics_sampling_interval(5)
        mlflow.start_run(run_id=run.run_id, log_system_metrics=True)
    except mlflow.MlflowException as error:
        uri = os.environ["MLFLOW_TRACKING_URI"]
        raise TrackingError(f"MLFLOW_TRACKING_URI = {uri} cannot be used: {error}") from error
    return run


def _find_server() -> bool:
    """Whether there is a server; the cluster's own is taken where none is injected."""
    if "MLFLOW_TRACKING_URI" not in os.environ:
        given = {name: os.environ[f"SELLA_{name}"] for name in SERVER_VARIABLES if f"SELLA_{name}" in os.environ}
        os.environ.update(given)
    return "MLFLOW_TRACKING_URI" in os.environ


def _find_or_make(step: str) -> StepRun:
    from mlflow import MlflowClient

    client = MlflowClient()
    injected = os.environ.get("MLFLOW_RUN_ID")
    if injected:
        run = client.get_run(injected)
        experiment = client.get_experiment(run.info.experiment_id).name
        known = bool(run.data.tags.get(STEP_TAG))
        client.set_tag(injected, STEP_TAG, step)
        return StepRun(client, experiment, run.data.tags.get(PARENT_TAG), injected, known)
    experiment_id, experiment = _experiment(client)
    pipeline_run = os.environ["KFP_RUN_ID"]
    parent, _ = _by_tags(client, experiment_id, pipeline_run, _PARENT_STEP, f"sella-rec {pipeline_run}", {})
    client.update_run(parent.info.run_id, status="RUNNING")
    child, found = _by_tags(client, experiment_id, pipeline_run, step, step, {PARENT_TAG: parent.info.run_id})
    return StepRun(client, experiment, parent.info.run_id, child.info.run_id, found)


def _experiment(client: MlflowClient) -> tuple[str, str]:
    """Id and name: the injected one, or the one named by `MLFLOW_EXPERIMENT_NAME` or `sella-rec`, made if missing."""
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


def describe_parent(client: MlflowClient, run_id: str, config: Config, code_version: str) -> None:
    """Log the whole config, code version, commit and image to the parent, once."""
    run = client.get_run(run_id)
    if CODE_TAG in run.data.tags:
        return
    tree = config.model_dump(mode="json")
    _log_params(client, run_id, flatten(tree))
    client.log_dict(run_id, tree, "config.yaml")
    for tag, variable in (("mlflow.source.git.commit", "SELLA_GIT_COMMIT"), ("sella.image", "SELLA_IMAGE_DIGEST")):
        if os.environ.get(variable):
            client.set_tag(run_id, tag, os.environ[variable])
    client.set_tag(run_id, CODE_TAG, code_version)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"fuse": {"learning_rate": 1}}` as `{"fuse.learning_rate": "1"}`."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return flat


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    listed = [Param(name, value) for name, value in params.items()]
    for start in range(0, len(listed), _PARAMS_PER_BATCH):
        client.log_batch(run_id, params=listed[start : start + _PARAMS_PER_BATCH])


def tag_error(run: StepRun, kind: str, reason: str) -> None:
    """Say in a step's run why it failed: the error's type, and as much of its reason as a tag may hold."""
    run.client.set_tag(run.run_id, ERROR_TYPE_TAG, kind)
    run.client.set_tag(run.run_id, ERROR_TAG, reason[:_TAG_LENGTH])


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
    condition = f"tags.`{RUN_TAG}` = '{os.environ['KFP_RUN_ID']}'"
    found = client.search_runs([experiment_id], condition)
    if status is None:
        nothing_to_do = any(run.data.tags.get(RETRAIN_TAG) == "no" for run in found)
        steps = [(run.data.tags[STEP_TAG], run.info.status) for run in found]
        status = outcome_of([(step, ended) for step, ended in steps if step != _PARENT_STEP], nothing_to_do)
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
        if entry["run"] == os.environ.get("KFP_RUN_ID") or not origin or tag in parent.data.tags:
            continue
        run.client.set_tag(run.parent_id, tag, origin)
        try:
            inputs = run.client.get_run(origin).inputs
        except MlflowException:
            # the cached step was tracked on another server or its run has been deleted
            continue
        if inputs is not None:
            taken = [DatasetInput(i.dataset, i.tags) for i in inputs.dataset_inputs]
            run.client.log_inputs(run.parent_id, taken)


def log_data(run: StepRun, folder: Path) -> None:
    """Log the splits of a prepared data set as inputs, and its report, to the step's run and its parent."""
    import polars as pl
    from mlflow.data.polars_dataset import from_polars
    from mlflow.entities import DatasetInput, InputTag

    inputs = []
    for split in ("train", "valid", "test"):
        path = folder / f"{split}.parquet"
        frame = pl.read_parquet(path)
        # MLflow's schema knows no lists
        flat = frame.with_columns(pl.col("history").list.len())
        dataset = from_polars(flat, source=str(path), targets="label", name=split)
        inputs.append(DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", split)]))
    for run_id in run.run_ids():
        run.client.log_inputs(run_id, inputs)
        run.client.log_artifact(run_id, str(folder / "report.json"), "data")


def log_outcome(run: StepRun, evaluation: Path) -> None:
    """Log every metric of every arm and slice, the table of arms and the report to the pipeline's run."""
    if run.parent_id is None:
        return
    from mlflow.entities import Metric

    arms = json.loads((evaluation / "summary.json").read_text())["arms"]
    rows = [{"arm": arm, "slice": part, **values} for arm, parts in arms.items() for part, values in parts.items()]
    metrics = [
        Metric(f"{row['arm']}/{row['slice']}/{name}", float(value), 0, 0)
        for row in rows
        for name, value in row.items()
        if isinstance(value, int | float)
    ]
    run.client.log_batch(run.parent_id, metrics=metrics)
    columns = {name: [row.get(name) for row in rows] for name in rows[0]}
    columns["uauc_ci"] = [f"{ci[0]:.4f} to {ci[1]:.4f}" if ci else "" for ci in columns["uauc_ci"]]
    if not any(file.path == "arms.json" for file in run.client.list_artifacts(run.parent_id)):
        run.client.log_table(run.parent_id, columns, "arms.json")
    run.client.log_artifact(run.parent_id, str(evaluation / "report.html"))
    run.client.set_tag(run.parent_id, NOTE_TAG, _note(arms))


def log_decision(run: StepRun, page: Path, tags: Mapping[str, str]) -> None:
    """Log the promotion's page and tags to the step's run and its parent."""
    for run_id in run.run_ids():
        run.client.log_text(run_id, page.read_text(encoding="utf-8"), "promotion.html")
        for key, value in tags.items():
            run.client.set_tag(run_id, key, value)


def _note(arms: Mapping[str, Any]) -> str:
    """The table of arms on all test rows in Markdown, for the parent's page."""
    lines = ["| arm | AUC | UAUC | NDCG | MAP |", "|---|---|---|---|---|"]
    for arm, slices in arms.items():
        values = (slices["all"][name] for name in ("auc", "uauc", "ndcg", "map"))
        lines.append(f"| {arm} | {' | '.join('-' if v is None else f'{v:.4f}' for v in values)} |")
    return "\n".join(lines)
