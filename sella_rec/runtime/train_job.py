"""Runs a training step's work with Kubeflow Trainer: a TrainJob whose node pods are made like the step's own pod.

Node pods cannot see the artifacts of Kubeflow Pipelines, so inputs and output are on the volume of checkpoints, which
they mount like the step's pod.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

from kubeflow.trainer import KubernetesBackendConfig, TrainerClient
from kubeflow.trainer.constants import constants as trainer
from kubeflow.trainer.types.types import TrainJob
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from sella_rec.config import TrainJobConfig
from sella_rec.environment import CHECKPOINTS, PIPELINE_RUN, POD
from sella_rec.files import atomic_output
from sella_rec.runtime.preemption import PreemptedError
from sella_rec.runtime.step import Step
from sella_rec.runtime.supervision import HEARTBEAT
from sella_rec.runtime.train_job_spec import RUN_LABEL, train_job
from sella_rec.runtime.work import (
    DistributedTrainingError,
    TrainingDiedError,
    Work,
    describe,
    raise_user_error,
    user_error_file,
)
from sella_rec.transient import STEP_PATIENCE, retrying

# Seconds.
POLL, _BEAT = 5.0, 30.0
_TAIL_LINES = 20
_OVER = (trainer.TRAINJOB_COMPLETE, trainer.TRAINJOB_FAILED)
log = logging.getLogger(__name__)


def run_train_job(work: Work, step: Step, config: KubernetesBackendConfig | None = None) -> None:
    """Run a step's work in the nodes of a TrainJob, and print the first node's log here.

    The job is deleted at the end in any case. An attempt that finds the job of an earlier one deletes it first, and the
    training continues from its checkpoint.

    Args:
        work: see `launch.launch`.
        step: its checkpoints are on a volume that the nodes mount at the same path.
        config: where Kubernetes is; none: this pod's cluster.

    Raises:
        TrainingDiedError: the job failed.
        DistributedTrainingError: it was refused or deleted, or this is no pod of Kubeflow Pipelines.
        UserError: a node's own.
        PreemptedError: SIGTERM came.
    """
    for name in (CHECKPOINTS, POD, PIPELINE_RUN):
        if name not in os.environ:
            raise DistributedTrainingError(
                f"launch.train_job.nodes is above 0, but {name} is not set: only a pod of Kubeflow Pipelines with a "
                "volume for checkpoints can start a TrainJob; elsewhere set launch.train_job.nodes=0"
            )
    made = step.checkpoints / "output"
    if not made.is_dir():
        job = _stage(work, step, made)
        try:
            with _beating(job.with_name(HEARTBEAT)):
                _run(TrainerClient(config), step, job)
        except TrainingDiedError:
            raise_user_error(job)
            raise
    with atomic_output(step.output) as folder:
        shutil.copytree(made, folder)


def _stage(work: Work, step: Step, output: Path) -> Path:
    """Copy the inputs to where the nodes see them, and describe the work there."""
    inputs = {name: step.checkpoints / "inputs" / name for name in step.inputs}
    for name, path in step.inputs.items():
        if not inputs[name].is_dir():
            with atomic_output(inputs[name]) as folder:
                shutil.copytree(path, folder)
    job = step.checkpoints / "job.json"
    # of an earlier attempt
    user_error_file(job).unlink(missing_ok=True)
    job.write_text(json.dumps(describe(work, step, inputs, output, step.checkpoints)))
    return job


@contextmanager
def _beating(file: Path) -> Iterator[None]:
    """Show the nodes that this process is alive: if it is killed and cannot delete the job, they end themselves."""
    ended = threading.Event()
    file.touch()

    def beat() -> None:
        while not ended.wait(_BEAT):
            file.touch()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _run(client: TrainerClient, step: Step, job: Path) -> None:
    """Create the job, follow it to its end and delete it."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise PreemptedError

    name, settings = step.checkpoints.name, step.config.launch.train_job
    before = signal.signal(signal.SIGTERM, stop)
    try:
        _clear(client, name)
        try:
            _create(client, name, settings, step, job)
            _follow(client, name)
        finally:
            # a second SIGTERM must not leave the job behind
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _delete(client, name)
    except ApiException as error:
        raise DistributedTrainingError(f"Kubernetes refused TrainJob {name}: {error.reason}: {error.body}") from error
    except HTTPError as error:
        raise DistributedTrainingError(f"Kubernetes does not answer: {error}") from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _clear(client: TrainerClient, name: str) -> None:
    """Delete the job of an earlier attempt.

    Raises:
        DistributedTrainingError: another run does the same training, with the same checkpoints.
    """
    try:
        found = _object(client, name)
    except ApiException as error:
        if error.status == 404:
            return
        raise
    run = found["metadata"]["labels"][RUN_LABEL]
    over = any(c["type"] in _OVER and c["status"] == "True" for c in found.get("status", {}).get("conditions", []))
    if run != os.environ[PIPELINE_RUN] and not over:
        raise DistributedTrainingError(
            f"TrainJob {name} of run {run} does the same training: wait until it has ended, or delete it and try again"
        )
    _delete(client, name)


def _object(client: TrainerClient, name: str) -> Any:
    return retrying(lambda: client.backend.custom_api.get_namespaced_custom_object(*_address(client), name))


def _address(client: TrainerClient) -> tuple[str, str, str, str]:
    return trainer.GROUP, trainer.VERSION, client.backend.namespace, trainer.TRAINJOB_PLURAL


def _create(client: TrainerClient, name: str, settings: TrainJobConfig, step: Step, job: Path) -> None:
    kubernetes = client.backend
    own = retrying(partial(kubernetes.core_api.read_namespaced_pod, os.environ[POD], kubernetes.namespace))
    pod = kubernetes.core_api.api_client.sanitize_for_serialization(own)
    runtime = retrying(lambda: client.get_runtime(settings.runtime))
    body = train_job(name, settings, step.config.launch.processes, runtime.kind.value, pod, job)
    retrying(lambda: _post(client, name, body))
    log.info("TrainJob %s/%s trains on %d nodes", kubernetes.namespace, name, settings.nodes)


def _post(client: TrainerClient, name: str, body: Mapping[str, Any]) -> None:
    try:
        client.backend.custom_api.create_namespaced_custom_object(*_address(client), body)
    except ApiException as error:
        # ours where the answer to an earlier request was lost
        if error.status != 409 or _object(client, name)["metadata"]["labels"][RUN_LABEL] != os.environ["KFP_RUN_ID"]:
            raise


def _follow(client: TrainerClient, name: str) -> None:
    """Print the first node's log, and events that say why pods do not start, until the job has ended.

    Raises:
        TrainingDiedError: it failed.
        DistributedTrainingError: somebody deleted it, or the API was away too long.
    """
    lines, shown = 0, set[str]()
    while (job := _get(client, name)).status not in _OVER:
        first = next((node for node in job.steps if node.name == f"{trainer.NODE}-0"), None)
        if first is None or first.status == trainer.POD_PENDING:
            _show_events(client, name, shown)
        elif first.status == trainer.TRAINJOB_RUNNING:
            lines += _stream(client, name, lines)
        time.sleep(POLL)
    lines += _stream(client, name, lines, follow=False)
    if job.status == trainer.TRAINJOB_FAILED:
        raise TrainingDiedError(f"TrainJob {name} failed: {_reason(client, name)}\n{_tails(client, job)}")


def _get(client: TrainerClient, name: str) -> TrainJob:
    """The job as it is now; an API that does not answer for a while does not end a training.

    Raises:
        DistributedTrainingError: the job is gone, or the API did not answer for too long.
    """
    try:
        return retrying(lambda: client.get_job(name))
    except (RuntimeError, TimeoutError) as error:
        if _is_missing(error):
            raise DistributedTrainingError(f"TrainJob {name} was deleted while it trained") from error
        raise DistributedTrainingError(f"Kubernetes does not answer: {error}") from error


def _stream(client: TrainerClient, name: str, seen: int, follow: bool = True) -> int:
    """Print the first node's log from line `seen` on, until it or the connection ends; the number of lines printed."""
    printed = 0
    try:
        for line in islice(client.get_job_logs(name, follow=follow), seen, None):
            print(line, flush=True)
            printed += 1
    except RuntimeError as error:
        log.warning("the connection to the first node's log was lost: %s", error)
    return printed


def _show_events(client: TrainerClient, name: str, shown: set[str]) -> None:
    try:
        events = client.get_job_events(name)
    except (RuntimeError, TimeoutError) as error:
        # whether the job is gone or the API does not answer shows when the job is read next
        log.warning("reading the events of TrainJob %s failed: %s", name, error)
        return
    for event in events:
        line = f"{event.involved_object_kind} {event.involved_object_name}: {event.reason}: {event.message}"
        if line not in shown:
            log.info(line)
            shown.add(line)


def _reason(client: TrainerClient, name: str) -> str:
    conditions = _object(client, name)["status"]["conditions"]
    return "; ".join(c.get("message", "") for c in conditions if c["type"] == trainer.TRAINJOB_FAILED)


def _tails(client: TrainerClient, job: TrainJob) -> str:
    """The ends of the failed nodes' logs; of all nodes if none is marked as failed."""
    failed = [node for node in job.steps if node.status == trainer.TRAINJOB_FAILED] or job.steps
    parts = []
    for node in failed:
        lines = retrying(partial(_log, client, job.name, node.name))[-_TAIL_LINES:]
        parts.append("\n".join([f"The end of {node.name}'s log (pod {node.pod_name}):", *lines]))
    return "\n".join(parts)


def _log(client: TrainerClient, name: str, node: str) -> list[str]:
    return list(client.get_job_logs(name, step=node))


def _delete(client: TrainerClient, name: str) -> None:
    """Take the job away, if there is one, and wait until it is gone with its pods."""
    delete, until = client.backend.custom_api.delete_namespaced_custom_object, time.monotonic() + STEP_PATIENCE
    while time.monotonic() < until:
        try:
            retrying(lambda: delete(*_address(client), name, propagation_policy="Foreground"))
        except ApiException as error:
            if error.status == 404:
                return
            raise
        time.sleep(POLL)
    raise DistributedTrainingError(f"TrainJob {name} is still there {STEP_PATIENCE} s after it was deleted")


def _is_missing(error: BaseException) -> bool:
    return isinstance(error.__cause__, ApiException) and error.__cause__.status == 404
