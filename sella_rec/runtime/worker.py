"""One process of a training: `torchrun -m sella_rec.runtime.worker JOB`, JOB as `work.describe` has it."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing.errors import record

from sella_rec.config import Config, step_config
from sella_rec.environment import progress_file
from sella_rec.errors import UserError
from sella_rec.runtime.determinism import make_deterministic
from sella_rec.runtime.step import Step, stay_offline_if_local
from sella_rec.runtime.supervision import HEARTBEAT, exit_with_parent, exit_with_runner, exit_without_heartbeat
from sella_rec.runtime.work import user_error_file
from sella_rec.tracking import runs as mlflow_runs
from sella_rec.tracking.progress_file import ProgressFile, read_progress
from sella_rec.tracking.tracker import StepTracker
from sella_rec.transient import STEP_PATIENCE, be_patient


@record
def main(file: str) -> None:
    """Run this process's share; errors are written where torchrun looks for them."""
    exit_with_runner()
    exit_with_parent()
    be_patient()
    heartbeat = Path(file).with_name(HEARTBEAT)
    if heartbeat.exists():
        exit_without_heartbeat(heartbeat)
    try:
        _work(json.loads(Path(file).read_text()))
    except UserError as error:
        user_error_file(Path(file)).write_text(str(error))
        raise


def _work(job: Mapping[str, Any]) -> None:
    rank = int(os.environ["RANK"])
    logging.basicConfig(
        level=logging.WARNING if rank else logging.INFO,
        format=f"%(asctime)s %(levelname)s [{rank}] %(name)s: %(message)s",
    )
    config = step_config(job["name"], json.loads(job["settings"])["config"])
    stay_offline_if_local(config.backbone)
    if config.deterministic:
        make_deterministic()
    _join_group(config.backbone.device)
    module, _, function = job["work"].partition(":")
    work = getattr(importlib.import_module(module), function)
    with tempfile.TemporaryDirectory(prefix="sella-rank-") as scratch:
        step = _step(job, config, None if rank == 0 else Path(scratch))
        work(step)
        step.tracker.flush()
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _join_group(device: str) -> None:
    if os.environ["WORLD_SIZE"] == "1":
        # transformers would take it for a distributed training, to which data parallelism belongs
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
            del os.environ[name]
        return
    on_cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    if on_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # one of them may be waiting for a service that is away
    distributed.init_process_group("nccl" if on_cuda else "gloo", timeout=timedelta(seconds=2 * STEP_PATIENCE))


def _step(job: Mapping[str, Any], config: Config, scratch: Path | None) -> Step:
    """The step as the process of rank 0 sees it; with `scratch`, as the others: untracked, the output discarded."""
    inputs = {name: Path(path) for name, path in job["inputs"].items()}
    output = scratch / "output" if scratch else Path(job["output"])
    run = mlflow_runs.StepRun.from_dict(job["run"]) if job["run"] and not scratch else None
    tracker = StepTracker(None if scratch else _progress(job["name"]), run)
    checkpoints = Path(job["checkpoints"])
    return Step(job["name"], config, job["settings"], inputs, job["before"], tracker, run, {}, output, checkpoints)


def _progress(name: str) -> ProgressFile | None:
    """The step's own file, which the process that launched this one has begun."""
    path = progress_file(name)
    if path is None:
        return None
    progress = ProgressFile(path)
    progress.start(**read_progress(path))
    return progress


if __name__ == "__main__":
    main(sys.argv[1])
