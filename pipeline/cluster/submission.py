"""Puts the DAG onto a cluster: a version of the pipeline, a run of it, and the watch over the run."""

from __future__ import annotations

import difflib
import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kfp_server_api import V2beta1Pipeline, V2beta1PipelineTaskDetail, V2beta1Run

from components.code_version import code_version
from pipeline.cluster.client import ClusterError, KfpConnection, named
from pipeline.compile import compile_pipeline
from pipeline.steps import PIPELINES, RECOMMEND_STEPS, STEPS
from sella_rec.config import Config

# of both pipelines
EXPERIMENT = PIPELINES["train"]
_SHOWN = (*STEPS, *RECOMMEND_STEPS)
# of shards, the one furthest from done is shown
_FURTHEST = ("FAILED", "RUNNING", "PENDING")
_ENDS = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
# of parameters that are not text
_TYPES = {"LIST": (list, "a list"), "STRUCT": (dict, "a mapping"), "NUMBER_INTEGER": (int, "a whole number")}
_POLL_SECONDS = 10.0
# an upgrade of the API server, or a laptop that changes networks
_PATIENCE_SECONDS = 600.0
# of a failed step's log: the traceback and what led to it
_LOG_LINES = 40


@dataclass(frozen=True)
class Package:
    """The compiled pipeline; `version` names it by its content, `name` is the pipeline's."""

    content: bytes
    version: str
    name: str = PIPELINES["train"]


@dataclass(frozen=True)
class PipelineVersion:
    """A version of the pipeline on a cluster."""

    pipeline_id: str
    id: str
    is_new: bool


def compile_package(pipeline: str = "train") -> Package:
    """Compile a DAG as it is.

    Args:
        pipeline: a key of `pipeline.PIPELINES`.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compile_pipeline(file, pipeline)
        content = file.read_bytes()
    name = PIPELINES[pipeline]
    return Package(content, f"{name}-{hashlib.sha256(content).hexdigest()[:16]}", name)


def upload(cluster: KfpConnection, package: Package) -> PipelineVersion:
    """Make the package a version of the pipeline on the cluster, unless it is one already.

    Raises:
        ClusterError: as `KfpConnection.asking`.
    """
    with cluster.asking():
        pipeline_id = _pipeline_id(cluster, package.name)
        known = cluster.api.list_pipeline_versions(pipeline_id, filter=named(package.version)).pipeline_versions
        if known:
            return PipelineVersion(pipeline_id, known[0].pipeline_version_id, is_new=False)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "pipeline.yaml"
            file.write_bytes(package.content)
            made = cluster.api.upload_pipeline_version(str(file), package.version, pipeline_id=pipeline_id)
    return PipelineVersion(pipeline_id, made.pipeline_version_id, is_new=True)


def arguments(
    config: Config,
    package: Package,
    data_version: str,
    given: Sequence[str] = (),
    window_until: str = "",
    batch: str = "",
) -> dict[str, Any]:
    """The pipeline's parameters; what the data is like is not known here, so its version is the caller's.

    Args:
        given: NAME=VALUE of further parameters, the image among them; a list or a mapping as YAML.
        window_until: end of the data to read, ISO 8601; empty: all.
        batch: names the batch, where the pipeline recommends.

    Raises:
        ClusterError: an unknown parameter, a value that is not of its type, or one that is missing.
    """
    parameters = _parameters(package)
    known = {"config": config.to_json(), "code_version": code_version(), "data_version": data_version}
    known |= {"window_until": window_until, "batch": batch}
    values: dict[str, Any] = {name: value for name, value in known.items() if name in parameters}
    values |= _given_parameters(given, parameters)
    if not values.get("image"):
        raise ClusterError("no image: --image or SELLA_IMAGE names the steps' image, as the cluster pulls it")
    for name, definition in parameters.items():
        if name not in values and "defaultValue" not in definition:
            raise ClusterError(f"no {name}: --parameter {name}=VALUE. {definition['description']}")
    return values


def _given_parameters(given: Sequence[str], parameters: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(parameters)}"
            raise ClusterError(f"--parameter {text}: write NAME=VALUE with a parameter of the pipeline{hint}")
        values[name] = _typed(name, value, parameters[name]["parameterType"])
    return values


def _parameters(package: Package) -> dict[str, Any]:
    # libyaml's loader, since the one in Python takes a second
    specification = next(iter(yaml.load_all(package.content, yaml.CSafeLoader)))
    parameters: dict[str, Any] = specification["root"]["inputDefinitions"]["parameters"]
    return parameters


def _typed(name: str, text: str, kind: str) -> Any:
    if kind not in _TYPES:
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ClusterError(f"--parameter {name}={text}: {error}") from error
    expected, words = _TYPES[kind]
    if not isinstance(value, expected):
        raise ClusterError(f"--parameter {name}={text}: expected {words}, as YAML or JSON")
    return value


def submit(
    cluster: KfpConnection,
    version: PipelineVersion,
    parameters: dict[str, Any],
    name: str,
    service_account: str | None = None,
) -> str:
    """Start a run, and return its id.

    Args:
        service_account: whose rights the steps' pods have; none: Kubeflow Pipelines' own account.

    Raises:
        ClusterError: as `KfpConnection.asking`.
    """
    with cluster.asking():
        started = cluster.api.run_pipeline(
            experiment_id(cluster),
            name,
            params=parameters,
            pipeline_id=version.pipeline_id,
            version_id=version.id,
            service_account=service_account,
        )
    return started.run_id


def experiment_id(cluster: KfpConnection) -> str:
    """The id of the experiment that holds all runs; it is made if need be."""
    return cluster.api.create_experiment(EXPERIMENT, namespace=cluster.namespace).experiment_id


def recent_runs(cluster: KfpConnection, count: int) -> list[V2beta1Run]:
    """The latest runs, newest first.

    Raises:
        ClusterError: as `KfpConnection.asking`.
    """
    with cluster.asking():
        found = cluster.api.list_experiments(namespace=cluster.namespace, filter=named(EXPERIMENT)).experiments
        if not found:
            return []
        listed = cluster.api.list_runs(experiment_id=found[0].experiment_id, page_size=count, sort_by="created_at desc")
    return listed.runs or []


def get_run(cluster: KfpConnection, run_id: str) -> V2beta1Run:
    """A run as it is now.

    Raises:
        ClusterError: as `KfpConnection.asking`.
    """
    with cluster.asking():
        return cluster.api.get_run(run_id)


def wait(cluster: KfpConnection, run_id: str, tell: Callable[[str], Any], poll: float = _POLL_SECONDS) -> V2beta1Run:
    """Follow a run to its end; `tell` gets a line whenever a step changes its state.

    Args:
        poll: seconds between two looks.

    Raises:
        ClusterError: the run failed, with each failed step's message; or the API was away for ten minutes.
    """
    told: dict[str, str] = {}
    answered = time.monotonic()
    while True:
        try:
            run = get_run(cluster, run_id)
            answered = time.monotonic()
        except ClusterError as error:
            if not error.passing or time.monotonic() - answered > _PATIENCE_SECONDS:
                raise ClusterError(f"{error}\nthe run goes on: `sella status {run_id}` shows it") from error
        else:
            told = _tell_changes(told, step_states(run), tell)
            if run.state in _ENDS:
                break
        time.sleep(poll)
    if run.state != "SUCCEEDED":
        raise ClusterError(explain_end(cluster, run))
    return run


def _tell_changes(told: dict[str, str], now: dict[str, str], tell: Callable[[str], Any]) -> dict[str, str]:
    for step in (step for step in now if now[step] != told.get(step)):
        tell(f"{step}: {now[step].lower()}")
    return now


def step_states(run: V2beta1Run) -> dict[str, str]:
    """The state of each step that has begun, in the DAG's order."""
    states = {step: [task.state for task in _tasks(run) if task.display_name == step and task.state] for step in _SHOWN}
    return {step: next((s for s in _FURTHEST if s in found), found[-1]) for step, found in states.items() if found}


def nothing_to_do(run: V2beta1Run) -> bool:
    """Whether check-drift, having found no reason to train, was the last step of a run that succeeded."""
    ran = [step for step, state in step_states(run).items() if state != "SKIPPED"]
    return run.state == "SUCCEEDED" and ran[-1:] == ["check-drift"]


def explain_end(cluster: KfpConnection, run: V2beta1Run) -> str:
    """Why a run did not succeed: every failed step with its message and the end of its log."""
    failed = [task for task in _tasks(run) if task.display_name in _SHOWN and task.state == "FAILED"]
    parts = [f"Run {run.run_id} ended as {run.state.lower()}."]
    for task in failed:
        below = _below(run, task)
        messages = dict.fromkeys(found.error.message for found in below if found.error and found.error.message)
        pods = dict.fromkeys(found.pod_name for found in below if found.pod_name)
        parts.append(f"Step {task.display_name} failed: {'; '.join(messages) or 'the API does not say why'}")
        parts += [_log_of(cluster, pod) for pod in pods]
    if not failed and run.error and run.error.message:
        parts.append(run.error.message)
    return "\n".join(parts)


def _log_of(cluster: KfpConnection, pod: str) -> str:
    space = f"-n {cluster.namespace} " if cluster.namespace else ""
    command = f"kubectl logs {space}{pod} -c main"
    lines = (cluster.pod_log(pod) or "").splitlines()[-_LOG_LINES:]
    if not lines:
        return f"  its log: {command}"
    return "\n".join([f"  the end of its log (all of it: {command}):", *(f"  | {line}" for line in lines)])


def _tasks(run: V2beta1Run) -> list[V2beta1PipelineTaskDetail]:
    details = run.run_details.task_details if run.run_details else None
    return sorted(details or [], key=lambda task: str(task.create_time or ""))


def _below(run: V2beta1Run, task: V2beta1PipelineTaskDetail) -> list[V2beta1PipelineTaskDetail]:
    """A task and the pods' tasks under it."""
    children = [child for child in _tasks(run) if child.parent_task_id == task.task_id and child.task_id]
    return [task, *(found for child in children for found in _below(run, child))]


def _pipeline_id(cluster: KfpConnection, name: str) -> str:
    known = cluster.api.list_pipelines(filter=named(name), namespace=cluster.namespace).pipelines
    if known:
        return known[0].pipeline_id
    # kfp's own upload_pipeline would name the first version after the pipeline
    wanted = V2beta1Pipeline(display_name=name, name=name, namespace=cluster.namespace)
    return cluster.api._pipelines_api.pipeline_service_create_pipeline(wanted).pipeline_id
