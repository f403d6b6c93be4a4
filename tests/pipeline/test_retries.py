"""Who tries what again, and how often: the step, a training's supervisor, Argo. The table is docs/operations.md's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from kubernetes.client import ApiException

from pipeline.resources import DEADLINE, TIMEOUTS
from sella_rec.config import Config
from sella_rec.config.base import ConfigError
from sella_rec.data.errors import DataError
from sella_rec.errors import UserError
from sella_rec.llm.backbone import BackboneError
from sella_rec.runtime.checkpoint_store import CheckpointStoreError
from sella_rec.runtime.preemption import PreemptedError
from sella_rec.runtime.restarts import with_restarts
from sella_rec.runtime.step import Step
from sella_rec.runtime.work import DistributedTrainingError, TrainingDiedError, TrainingUserError
from sella_rec.tracking.tracker import StepTracker
from sella_rec.transient import STEP_PATIENCE, is_transient
from tests.fakes.argo import End, attempts
from tests.pipeline.conftest import groups_of, steps_of

ROOT = Path(__file__).parents[2]
HOUR = 3600.0
NOT_AT_ALL, SIGKILL = "-", TrainingDiedError("process 0 failed: Signal 9 (SIGKILL)")


def refused(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status}", response=response)


def wrapped(error: Exception, cause: Exception) -> Exception:
    """As the steps raise what a library has raised."""
    error.__cause__ = cause
    return error


@dataclass(frozen=True)
class Row:
    """What happens, and what it looks like to each that could try again.

    Attributes:
        error: what the step's code meets; none where it is ended from outside.
        phase: of the pod's node in Argo.
        cut_off: ends the step's own process, its supervisor included.
    """

    what: str
    phase: str
    error: BaseException | None = None
    cut_off: bool = False


AWAY = requests.ConnectionError("refused")
ROWS = (
    Row("the pod is lost: deleted, evicted, pre-empted, its node gone", "Error", PreemptedError(), cut_off=True),
    Row("SIGTERM to the step, its pod staying", "Failed", PreemptedError()),
    Row("a training's process is killed, or CUDA's memory is full", "Failed", SIGKILL),
    Row("a step exits with an error of its own code", "Failed", RuntimeError("index out of range")),
    Row("the container is killed for its memory (OOMKilled)", "Failed", cut_off=True),
    Row("a step is past its time limit", "Failed", cut_off=True),
    Row("MLflow is away, or answers 429 or 5xx", "Failed", AWAY),
    Row("an object store is away, or answers 5xx", "Failed", wrapped(CheckpointStoreError("away"), AWAY)),
    Row("the Hugging Face hub is away, or answers 429 or 5xx", "Failed", wrapped(BackboneError("away"), refused(503))),
    Row(
        "the Kubernetes API is away, or answers 5xx (`launch.train_job`)",
        "Failed",
        wrapped(DistributedTrainingError("Kubernetes does not answer"), ApiException(status=500)),
    ),
    Row("one of them refuses: 401, 403, 404", "Failed", wrapped(BackboneError("no such model"), refused(404))),
    Row("a wrong configuration", "Failed", ConfigError("tune.epochs: give 1 or more")),
    Row("data that cannot be used", "Failed", DataError("ratings.csv: no column user_id")),
)


@pytest.fixture(scope="module", params=["pipeline.yaml", "recommend.yaml"])
def tasks(request: Any) -> dict[str, Any]:
    spec, _ = yaml.safe_load_all((ROOT / request.param).read_text())
    if request.param == "pipeline.yaml":
        return {**steps_of(spec), "finish": groups_of(spec)[0]["finish"]}
    dags = [spec["root"], *(part for part in spec["components"].values() if "dag" in part)]
    return {name: task for part in dags for name, task in part["dag"]["tasks"].items() if "condition" not in name}


@pytest.fixture(scope="module")
def training() -> dict[str, Any]:
    spec, _ = yaml.safe_load_all((ROOT / "pipeline.yaml").read_text())
    return steps_of(spec)["tune-llm"]


@pytest.fixture
def step() -> Step:
    return Step("tune-llm", Config(), "v1", {}, {}, StepTracker(), None)


def by_the_step(row: Row) -> str:
    return f"{STEP_PATIENCE // 60} minutes" if row.error and is_transient(row.error) else NOT_AT_ALL


def by_the_supervisor(row: Row, step: Step) -> str:
    """What it does for a training's error as `launch` brings it from the process that met it."""
    if row.cut_off or row.error is None:
        return NOT_AT_ALL
    tried = []
    error = row.error
    if isinstance(error, UserError):
        error = TrainingUserError(str(error))
    elif not isinstance(error, PreemptedError | DistributedTrainingError):
        error = TrainingDiedError(str(error))

    def train() -> None:
        tried.append(1)
        raise error

    with pytest.raises(type(error)):
        with_restarts(train, step)
    return f"{len(tried) - 1} times" if len(tried) > 1 else NOT_AT_ALL


def by_argo(row: Row, task: dict[str, Any]) -> str:
    again = attempts(task, [End(row.phase, 60.0)] * 9) - 1
    return f"{again} times" if again else NOT_AT_ALL


def test_the_table_of_the_docs_is_what_the_layers_do(training: dict[str, Any], step: Step) -> None:
    lines = [
        "| What happens | The step tries again for | Its supervisor starts training again | Argo starts a new pod |",
        "|---|---|---|---|",
    ]
    for row in ROWS:
        cells = (row.what, by_the_step(row), by_the_supervisor(row, step), by_argo(row, training))
        lines.append(f"| {' | '.join(cells)} |")
    text = (ROOT / "docs" / "operations.md").read_text()
    begin, end = "<!-- retries:begin -->\n", "\n<!-- retries:end -->"
    assert text.partition(begin)[2].partition(end)[0] == "\n".join(lines)


def test_a_training_that_is_pre_empted_in_its_fifth_hour_is_tried_again(training: dict[str, Any]) -> None:
    assert attempts(training, [End("Error", 4.5 * HOUR), End("Succeeded", 4 * HOUR)]) == 2
    # and as late as its own time limit lets it be, twice
    late = End("Error", TIMEOUTS["llm"])
    assert attempts(training, [late, late, End("Succeeded", HOUR)]) == 3
    old = training | {"retryPolicy": training["retryPolicy"] | {"backoffMaxDuration": "600s"}}
    assert attempts(old, [End("Error", 4.5 * HOUR), End("Succeeded", 4 * HOUR)]) == 1, "as it was"


def test_every_retry_may_come_as_late_as_the_run_may_last(tasks: dict[str, Any]) -> None:
    retried = {name: task["retryPolicy"] for name, task in tasks.items() if "retryPolicy" in task}
    assert retried
    assert {policy["backoffMaxDuration"] for policy in retried.values()} == {f"{DEADLINE}s"}
    assert 3 * TIMEOUTS["llm"] < DEADLINE
