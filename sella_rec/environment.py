"""The environment variables that the library and the steps read: they say where things are, and none needs to be set.

An empty variable counts as one that is not set.
"""

from __future__ import annotations

import os
from pathlib import Path

# Downloads, models of the registry, the unpacked LLM.
CACHE = "SELLA_CACHE"
# Folder that outlives a killed attempt; a mounted volume on a cluster.
CHECKPOINTS = "SELLA_CHECKPOINTS"
# Folders of a run on this machine: what each step says of itself, and what it prints.
PROGRESS = "SELLA_PROGRESS"
LOGS = "SELLA_LOGS"
# File that the runner of the steps holds a lock on; see `runtime.supervision`.
LOCK = "SELLA_LOCK"
# Commit of the code and digest of the image, for tags of the MLflow run.
GIT_COMMIT = "SELLA_GIT_COMMIT"
IMAGE_DIGEST = "SELLA_IMAGE_DIGEST"

# Seconds that a step waits for services that are away; see `transient`.
PATIENCE = "SELLA_PATIENCE"
# File for the reason of a failure, in place of the pod's own; see `runtime.failure_reason`.
TERMINATION_LOG = "SELLA_TERMINATION_LOG"

# Id of the pipeline's run, by which MLflow runs are found.
PIPELINE_RUN = "KFP_RUN_ID"
# The step's pod.
POD = "KFP_POD_NAME"

# Password of the database that the data is read from.
DATABASE_PASSWORD = "SELLA_DATABASE_PASSWORD"

# MLflow's server, and the run there that a step attaches to instead of making one.
TRACKING_SERVER = "MLFLOW_TRACKING_URI"
MLFLOW_RUN = "MLFLOW_RUN_ID"


def cache_folder() -> Path:
    """Where what is costly to make is kept between runs: `.cache` in this folder if the variable names no other."""
    return _path(CACHE) or Path(".cache")


def checkpoints_root() -> Path | None:
    """The folder that checkpoints of all steps lie in."""
    return _path(CHECKPOINTS)


def progress_file(step: str) -> Path | None:
    """Where a step says how far it is."""
    folder = _path(PROGRESS)
    return folder / f"{step}.json" if folder else None


def log_file(step: str) -> Path | None:
    """Where a step's output goes."""
    folder = _path(LOGS)
    return folder / f"{step}.log" if folder else None


def lock_file() -> Path | None:
    """The file that the runner holds a lock on for as long as it lives."""
    return _path(LOCK)


def pipeline_run() -> str | None:
    """Id of the pipeline's run."""
    return os.environ.get(PIPELINE_RUN) or None


def _path(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value) if value else None
