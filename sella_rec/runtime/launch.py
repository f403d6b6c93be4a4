"""Runs a training step's work: in this process, in others of this pod, or in a TrainJob's node pods."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from sella_rec.config import Config
from sella_rec.environment import POD
from sella_rec.runtime.preemption import PreemptedError
from sella_rec.runtime.restarts import with_restarts
from sella_rec.runtime.step import Step
from sella_rec.runtime.work import WORKER, TrainingDiedError, Work, describe, raise_user_error

log = logging.getLogger(__name__)


def launch(work: Work, step: Step) -> None:
    """Run a training step's work as section `launch` of the configuration says.

    Args:
        work: a function of a module, found by its name in the other processes.
        step: the process of rank 0 uses its output, tracker and progress; the others' outputs are discarded.

    Raises:
        DistributedTrainingError: the processes died, each time that they were started, or could not be started.
        UserError: the work's own.
        PreemptedError: SIGTERM arrived, and the processes have written a checkpoint.
    """
    if step.config.launch.train_job.nodes:
        from sella_rec.runtime.train_job import run_train_job

        with_restarts(lambda: run_train_job(work, step), step)
        return
    processes = step.config.launch.processes or _accelerators(step.config)
    if processes == 1 and POD not in os.environ:
        # outside a pod, the runner starts a killed step again
        work(step)
        return
    with_restarts(lambda: _in_processes(processes, work, step), step)


def _accelerators(config: Config) -> int:
    """CUDA devices that training would run on; 1 where it runs on something else."""
    return max(1, torch.cuda.device_count()) if config.backbone.device in ("auto", "cuda") else 1


def _in_processes(processes: int, work: Work, step: Step) -> None:
    log.info("training in %d processes of their own", processes)
    with tempfile.TemporaryDirectory(prefix="sella-job-") as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps(describe(work, step, step.inputs, step.output, step.checkpoints)))
        _torchrun(processes, job)


def _torchrun(processes: int, job: Path) -> None:
    if processes > 1:
        # they share the cores
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=job.parent.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        # torchrun would try configuration errors again too
        max_restarts=0,
        signals_to_handle="SIGTERM",
    )
    # its events say nothing that the processes do not
    logging.getLogger("torchelastic-events-null").setLevel(logging.ERROR)
    before = signal.getsignal(signal.SIGTERM)
    try:
        elastic_launch(config, sys.executable)("-m", WORKER, str(job))
    except SignalException as ended:
        raise PreemptedError from ended
    except ChildFailedError as error:
        raise_user_error(job)
        rank, failure = error.get_first_failure()
        if failure.exitcode in (-signal.SIGTERM, 128 + signal.SIGTERM):
            raise PreemptedError from None
        told: Any = failure.message
        # what `record` wrote; a killed process has but a message
        reason = f"{told['message']}\n{told['extraInfo']['py_callstack']}" if isinstance(told, dict) else told
        raise TrainingDiedError(f"process {rank} failed: {reason}") from None
    finally:
        signal.signal(signal.SIGTERM, before)
