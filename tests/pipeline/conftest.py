"""One run of the whole DAG over tiny models, in a folder of its own, that several tests look at."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sella_rec.config import Config

if TYPE_CHECKING:
    from pipeline.cluster.submission import Package

Sella = Callable[..., subprocess.CompletedProcess[str]]


def sella_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipeline.cli.main", *arguments]


def clean_environment() -> dict[str, str]:
    """This process' environment without what would make a run track or report elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "SELLA_", "KFP_"))}
    repository = str(Path(__file__).parents[2])
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": repository}


def groups_of(spec: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Tasks of the compiled pipeline: the whole, what the exit handler watches, and what check-drift lets pass."""
    components = spec["components"]
    dags = (spec["root"], components["comp-exit-handler-1"], components["comp-condition-2"])
    return tuple(group["dag"]["tasks"] for group in dags)


def steps_of(spec: dict[str, Any]) -> dict[str, Any]:
    """The steps' tasks, whichever group they are in."""
    _, outside, inside = groups_of(spec)
    return {step: task for step, task in (outside | inside).items() if step != "condition-2"}


@pytest.fixture(scope="session")
def package() -> Package:
    """The compiled pipeline; compiling takes a second."""
    from pipeline.cluster.submission import compile_package

    return compile_package()


@pytest.fixture(scope="session")
def recommend_package() -> Package:
    """The compiled pipeline of recommendations."""
    from pipeline.cluster.submission import compile_package

    return compile_package("recommend")


@pytest.fixture(scope="session")
def config_file(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny configuration, its evaluation cut, as a YAML file."""
    tree = tiny_config.model_dump(mode="json")
    tree["tune"] |= {"rows_per_step": 2, "save_every": 5}
    tree["fuse"] |= {"max_labels": 80, "rows_per_step": 2}
    tree["evaluate"] |= {"bootstrap_samples": 100, "examples": 2, "max_rows_per_user": 6}
    tree["promote"] |= {"min_users": 10}
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the shared run works in."""
    return tmp_path_factory.mktemp("workplace")


@pytest.fixture(scope="session")
def sella(workplace: Path) -> Sella:
    """Runs the command in the shared folder."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            sella_command(*arguments), cwd=workplace, env=clean_environment(), capture_output=True, text=True
        )

    return call


@pytest.fixture(scope="session")
def first_run(sella: Sella, config_file: Path) -> tuple[subprocess.CompletedProcess[str], str]:
    """`sella run` to its end, and the run's id."""
    done = sella("run", "--config", str(config_file))
    assert done.returncode == 0, done.stdout + done.stderr
    return done, done.stdout.split(":")[0].removeprefix("Run ")


@pytest.fixture(scope="session")
def first_folder(first_run: tuple[subprocess.CompletedProcess[str], str], workplace: Path) -> Path:
    """The folder of the first run."""
    return workplace / "runs" / first_run[1]
