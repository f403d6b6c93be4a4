"""Runs a training step's work: in this process, in several processes of this pod, or in a TrainJob's node pods."""

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
from sella_rec.runtime.preemption import PreemptedError
from sella_rec.runtime.step import Step
from sella_rec.runtime.work import WORKER, DistributedTrainingError, Work, describe

log = logging.getLogger(__name__)


def launch(work: Work, step: Step) -> None:
    """Run a training step's work as section `launch` of the configuration says.

    Args:
        work: a function of a module, found by its name in the other processes.
        step: the process of rank 0 uses its output, tracker and progress; the others' outputs are discarded.

    Raises:
        DistributedTrainingError: one of several processes failed.
        PreemptedError: SIGTERM arrived, and the processes have written a checkpoint.
    """
    if step.config.launch.train_job.nodes:
        from sella_rec.runtime.train_job import run_train_job

        run_train_job(work, step)
        return
    processes = step.config.launch.processes or _accelerators(step.config)
    if processes == 1:
        work(step)
        return
    log.info("training in %d processes", processes)
    with tempfile.TemporaryDirectory(prefix="sella-job-") as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps(describe(work, step, step.inputs, step.output, step.checkpoints)))
        _torchrun(processes, job)


def _accelerators(config: Config) -> int:
    """CUDA devices that training would run on; 1 where it runs on something else."""
    return max(1, torch.cuda.device_count()) if config.backbone.device in ("auto", "cuda") else 1


def _torchrun(processes: int, job: Path) -> None:
    # the processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=job.parent.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        # an error would recur; a killed process is left to the step's retry
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
        rank, failure = error.get_first_failure()
        message: Any = failure.message
        # what `record` wrote; a killed process has only a message
        trace = message["extraInfo"]["py_callstack"] if isinstance(message, dict) else message
        raise DistributedTrainingError(f"process {rank} failed: {trace}") from None
    finally:
        signal.signal(signal.SIGTERM, before)
