"""Many processes that write to one run at once, through MLflow's server over PostgreSQL and over SQLite."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sella_rec.config import Config
from sella_rec.tracking.runs import StepRun, describe_pipeline_run, flatten, open_step_run
from sella_rec.tracking.server import TrackingError
from sella_rec.tracking.shared_writes import log_inputs, log_params, set_tags
from tests.mlflow_server import mlflow_server
from tests.postgres import postgres, postgres_programs

THREADS, PROCESSES, ROUNDS = 16, 4, 2
_STEP = """
import sys
from sella_rec.config import Config
from sella_rec.tracking.runs import close_step_run, open_step_run
import mlflow
print("ready", flush=True)
sys.stdin.readline()
run = open_step_run(sys.argv[1])
close_step_run("FINISHED")
print(run.parent_id, flush=True)
"""


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    if request.param == "sqlite":
        with mlflow_server(folder) as url:
            yield url
        return
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgres(programs) as database, mlflow_server(folder, backend=database) as url:
        yield url


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    from mlflow import MlflowClient

    # what fails is to fail now
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "KFP_MLFLOW_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return MlflowClient(server)


def at_once(work: Callable[[int], Any], threads: int = THREADS) -> list[BaseException | None]:
    """What each thread's call raised, all of them having begun together."""
    barrier = threading.Barrier(threads)

    def one(number: int) -> None:
        barrier.wait()
        work(number)

    with ThreadPoolExecutor(threads) as pool:
        return [future.exception() for future in [pool.submit(one, number) for number in range(threads)]]


def new_run(client: Any) -> str:
    return client.create_run("0").info.run_id


def test_the_pipelines_run_is_described_by_all_at_once(client):
    config = Config(seed=7)
    for _ in range(ROUNDS):
        run_id = new_run(client)
        run = StepRun(client, "Default", run_id, run_id, False)
        assert at_once(lambda _, run=run: describe_pipeline_run(run, config, "c0de")) == [None] * THREADS
        described = client.get_run(run_id).data
        assert described.params == flatten(config.model_dump(mode="json"))
        assert described.tags["sella.code_version"] == "c0de"


def test_overlapping_parameters_are_all_logged(client):
    for _ in range(ROUNDS):
        run_id = new_run(client)
        wanted = [{f"p{name}": str(name) for name in range(number, number + 8)} for number in range(THREADS)]
        failed = at_once(lambda number, run_id=run_id, wanted=wanted: log_params(client, run_id, wanted[number]))
        assert failed == [None] * THREADS
        assert client.get_run(run_id).data.params == {f"p{name}": str(name) for name in range(THREADS + 7)}


def test_of_different_values_one_stays_and_the_others_are_told_of(client):
    run_id = new_run(client)
    failed = at_once(lambda number: log_params(client, run_id, {"same": "1", "seed": str(number)}))
    kept = client.get_run(run_id).data.params["seed"]
    assert sum(error is None for error in failed) == 1
    for number, error in enumerate(failed):
        if str(number) == kept:
            assert error is None
        else:
            assert isinstance(error, TrackingError)
            assert f"has seed = {kept} already and cannot be given seed = {number}" in str(error)


def test_a_value_that_mlflow_shortens_is_equal_to_itself(client):
    run_id = new_run(client)
    for _ in range(2):
        log_params(client, run_id, {"items": "x" * 7000})
    assert len(client.get_run(run_id).data.params["items"]) == 6000


def test_what_the_server_refuses_stays_an_error(client):
    from mlflow import MlflowException

    with pytest.raises(MlflowException, match="Invalid"):
        log_params(client, new_run(client), {"a?b": "1"})
    ended = new_run(client)
    client.delete_run(ended)
    with pytest.raises(MlflowException, match="active"):
        log_params(client, ended, {"a": "1"})


def test_tags_and_data_sets_of_all_at_once(client):
    from mlflow.entities import Dataset, DatasetInput, InputTag

    for turn in range(ROUNDS):
        run_id = new_run(client)
        inputs = [DatasetInput(Dataset("train", f"d{turn}", "local", "{}"), [InputTag("mlflow.data.context", "train")])]

        def link(_number: int, run_id: str = run_id, inputs: Any = inputs) -> None:
            set_tags(client, run_id, {"sella.reused.prepare-data": "abc"})
            log_inputs(client, run_id, inputs)

        assert at_once(link) == [None] * THREADS
        run = client.get_run(run_id)
        assert run.data.tags["sella.reused.prepare-data"] == "abc"
        assert [each.dataset.digest for each in run.inputs.dataset_inputs] == [f"d{turn}"]


@pytest.mark.slow
def test_steps_in_processes_of_their_own_start_together(client, server, monkeypatch, request, tmp_path):
    import mlflow

    mlflow.set_tracking_uri(server)
    monkeypatch.setenv("KFP_RUN_ID", request.node.name)
    monkeypatch.chdir(tmp_path)
    # as the first step of a pipeline does
    first = open_step_run("configure")
    describe_pipeline_run(first, Config(), "c0de")
    mlflow.end_run()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    mlflow.set_tracking_uri(None)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    steps = [subprocess.Popen([sys.executable, "-c", _STEP, f"step-{n}"], **pipes) for n in range(PROCESSES)]
    assert [step.stdout.readline() for step in steps] == ["ready\n"] * PROCESSES
    for step in steps:
        step.stdin.write("go\n")
        step.stdin.flush()
    # MLflow prints where its page is
    assert [step.communicate(timeout=120)[0].split()[-1] for step in steps] == [first.parent_id] * PROCESSES
    experiment = client.get_experiment_by_name("sella-rec").experiment_id
    found = client.search_runs([experiment], f"tags.`sella.run` = '{request.node.name}'")
    assert len(found) == PROCESSES + 2
