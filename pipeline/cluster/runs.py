"""Runs on a cluster: how their steps stand, the wait for their end, and why they failed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kfp_server_api import V2beta1PipelineTaskDetail, V2beta1Run

from pipeline.cluster.client import ClusterError, KfpConnection, filtered, named
from pipeline.cluster.step_records import RecordsError, StepRecord, find_records
from pipeline.cluster.submission import EXPERIMENT
from pipeline.steps import RECOMMEND_STEPS, STEPS

ENDS = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
_SHOWN = (*STEPS, *RECOMMEND_STEPS)
# the last step of a run that has done all that it could
_LAST_STEPS = ("check-drift", STEPS[-1], RECOMMEND_STEPS[-1])
# of shards, the one furthest from done is shown
_FURTHEST = ("FAILED", "RUNNING", "PENDING")
_POLL_SECONDS = 10.0
# an upgrade of the API server, or a laptop that changes networks
_PATIENCE_SECONDS = 600.0
# of a failed step's log: the traceback and what led to it
_LOG_LINES = 40
# KFP's own, where it has no users
_NAMESPACE = "kubeflow"


@dataclass(frozen=True)
class StepStates:
    """How a run's steps stand.

    Attributes:
        states: of each step that has begun, in the DAG's order.
        from_mlflow: the steps whose state MLflow tells, the API's list being older than the run.
        records: MLflow's, where they were read.
        note: what to tell the user about where the states come from; empty: they are the API's.
    """

    states: dict[str, str]
    from_mlflow: tuple[str, ...] = ()
    records: dict[str, StepRecord] = field(default_factory=dict)
    note: str = ""

    def lines(self) -> dict[str, str]:
        """The states in words, by step."""
        return {
            step: f"{state.lower()}{' (from MLflow)' if step in self.from_mlflow else ''}"
            for step, state in self.states.items()
        }


def recent_runs(cluster: KfpConnection, count: int, recurring_run_id: str | None = None) -> list[V2beta1Run]:
    """The latest runs, newest first.

    Args:
        recurring_run_id: only those that this schedule has started.

    Raises:
        ClusterError: as `KfpConnection.asking`.
    """
    with cluster.asking():
        found = cluster.api.list_experiments(namespace=cluster.namespace, filter=named(EXPERIMENT)).experiments
        if not found:
            return []
        listed = cluster.api.list_runs(
            experiment_id=found[0].experiment_id,
            page_size=count,
            sort_by="created_at desc",
            filter=filtered("recurring_run_id", recurring_run_id) if recurring_run_id else None,
        )
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
                raise ClusterError(f"{error}\nthe run continues: `sella status {run_id}` shows it") from error
        else:
            told = _tell_changes(told, step_states(run), tell)
            if run.state in ENDS:
                break
        time.sleep(poll)
    if run.state != "SUCCEEDED":
        raise ClusterError(explain_end(cluster, run))
    return run


def _tell_changes(told: dict[str, str], now: StepStates, tell: Callable[[str], Any]) -> dict[str, str]:
    lines = now.lines() | ({"note": now.note} if now.note else {})
    for step, line in lines.items():
        if line != told.get(step):
            tell(line if step == "note" else f"{step}: {line}")
    return lines


def step_states(run: V2beta1Run) -> StepStates:
    """How the steps stand: as the API lists them or, where its list is older than the run, as MLflow has them."""
    listed = _listed_states(run)
    if not _is_stale(run, listed):
        return StepStates(listed)
    try:
        records = find_records(run.run_id)
    except RecordsError as error:
        return StepStates(listed, note=str(error))
    if records is None:
        older = (
            "The API's list of steps is older than the run's state: set MLFLOW_TRACKING_URI to see the steps' own runs."
        )
        return StepStates(listed, note=older if run.state in ENDS else "")
    newer = tuple(step for step in _SHOWN if step in records and listed.get(step) not in ENDS)
    known = listed | {step: records[step].state for step in newer}
    return StepStates({step: known[step] for step in _SHOWN if step in known}, newer, records)


def _listed_states(run: V2beta1Run) -> dict[str, str]:
    tasks = _tasks(run)
    found = {step: [task.state for task in tasks if _step_of(task) == step and task.state] for step in _SHOWN}
    driven = {task.display_name for task in tasks if task.state == "FAILED"}
    states = {step: next((s for s in _FURTHEST if s in all_), all_[-1]) for step, all_ in found.items() if all_}
    return {step: states.get(step, "FAILED") for step in _SHOWN if step in states or f"{step}-driver" in driven}


def _is_stale(run: V2beta1Run, listed: dict[str, str]) -> bool:
    """Whether the list of tasks cannot be as new as the run's state: KFP stops updating it where a run is large."""
    going = [state for state in listed.values() if state not in ENDS]
    if run.state == "SUCCEEDED":
        ran = [step for step, state in listed.items() if state != "SKIPPED"]
        return bool(going) or (bool(ran) and ran[-1] not in _LAST_STEPS)
    if run.state == "FAILED":
        return bool(going) or ("FAILED" not in listed.values() and not run.error)
    # between two steps of a run that is well, the list looks like this too
    return bool(going) if run.state in ENDS else bool(listed) and not going


def nothing_to_do(run: V2beta1Run) -> bool:
    """Whether check-drift, having found no reason to train, was the last step of a run that succeeded."""
    ran = [step for step, state in step_states(run).states.items() if state != "SKIPPED"]
    return run.state == "SUCCEEDED" and ran[-1:] == ["check-drift"]


def explain_end(cluster: KfpConnection, run: V2beta1Run) -> str:
    """Why a run did not succeed: every failed step with its reason and the end of its log."""
    return "\n".join([f"Run {run.run_id} ended as {run.state.lower()}.", *failures(cluster, run)])


def failures(cluster: KfpConnection, run: V2beta1Run) -> list[str]:
    """The reasons why a run did not succeed, in lines."""
    seen = step_states(run)
    failed = [step for step, state in seen.states.items() if state == "FAILED"]
    records, notes = seen.records, [seen.note] if seen.note else []
    if failed and not records and not seen.note:
        try:
            records = find_records(run.run_id) or {}
        except RecordsError as error:
            notes = [str(error)]
    lines = [line for step in failed for line in _failure(cluster, run, step, records.get(step))]
    if not failed and run.error and run.error.message:
        lines.append(run.error.message)
    return lines + notes


def _failure(cluster: KfpConnection, run: V2beta1Run, step: str, record: StepRecord | None) -> list[str]:
    tasks = [task for task in _tasks(run) if _step_of(task) == step and task.state == "FAILED"]
    below = [found for task in tasks for found in _below(run, task)]
    said = dict.fromkeys(found.error.message for found in below if found.error and found.error.message)
    reason = "; ".join(said) or (record.error if record else None)
    pods = dict.fromkeys(found.pod_name for found in below if found.pod_name)
    space = cluster.namespace or _NAMESPACE
    of_run = f"-n {space} -l pipeline/runid={run.run_id}"
    if not tasks and (record is None or record.state != "FAILED"):
        nodes = '{range .items[*].status.nodes.*}{.displayName}: {.message}{"\\n"}{end}'
        return [
            f"Step {step} did not start: its driver failed, which sets up inputs and pod (resources, admission)",
            f"  messages: kubectl get workflow {of_run} -o jsonpath='{nodes}'",
        ]
    first = f"Step {step} failed: {reason or 'the API does not give the reason; see its log'}"
    if pods:
        return [first, *(_log_of(cluster, space, pod) for pod in pods)]
    command = f"kubectl logs {of_run},app.kubernetes.io/component={step} -c main --tail={_LOG_LINES}"
    return [first, f"  its log: {command}"]


def _log_of(cluster: KfpConnection, space: str, pod: str) -> str:
    command = f"kubectl logs -n {space} {pod} -c main"
    lines = (cluster.pod_log(pod) or "").splitlines()[-_LOG_LINES:]
    if not lines:
        return f"  its log: {command}"
    return "\n".join([f"  the end of its log (all of it: {command}):", *(f"  | {line}" for line in lines)])


def _tasks(run: V2beta1Run) -> list[V2beta1PipelineTaskDetail]:
    details = run.run_details.task_details if run.run_details else None
    return sorted(details or [], key=lambda task: str(task.create_time or ""))


def _step_of(task: V2beta1PipelineTaskDetail) -> str:
    # the tasks of a loop are numbered
    return re.sub(r"\(\d+\)$", "", task.display_name or "")


def _below(run: V2beta1Run, task: V2beta1PipelineTaskDetail) -> list[V2beta1PipelineTaskDetail]:
    """A task and the pods' tasks under it."""
    children = [child for child in _tasks(run) if child.parent_task_id == task.task_id and child.task_id]
    return [task, *(found for child in children for found in _below(run, child))]
