from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime

import kfp_server_api as models
import pytest
from mlflow import MlflowClient

from pipeline.cluster import runs
from pipeline.cluster.client import ClusterError, KfpConnection
from pipeline.cluster.runs import get_run, nothing_to_do, step_states, wait
from pipeline.cluster.step_records import find_records
from pipeline.cluster.submission import Package, submit, upload
from tests.fakes.kfp_scheduler import show_run
from tests.fakes.kfp_server import State

ONE = Package(b"a: 1\n", "v-1")


def _task(name: str, state: str, **more: object) -> models.V2beta1PipelineTaskDetail:
    created = datetime(2026, 1, 1, tzinfo=UTC)
    return models.V2beta1PipelineTaskDetail(display_name=name, state=state, create_time=created, **more)


def _error(message: str) -> models.GoogleRpcStatus:
    return models.GoogleRpcStatus(code=2, message=message)


def _show(run: models.V2beta1Run, state: str, *tasks: models.V2beta1PipelineTaskDetail) -> None:
    run.state, run.run_details = state, models.V2beta1RunDetails(task_details=list(tasks))


@pytest.fixture
def run_id(server: tuple[KfpConnection, State]) -> str:
    cluster, _ = server
    return submit(cluster, upload(cluster, ONE), {"image": "i:1"}, "first")


@pytest.fixture(autouse=True)
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "SELLA_MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def test_waiting_tells_each_change_of_a_step_once(server, run_id):
    cluster, state = server
    looks = iter(
        [
            ("PENDING", []),
            ("RUNNING", [_task("root", "RUNNING"), _task("prepare-data", "RUNNING")]),
            ("RUNNING", [_task("train-collab", "PENDING"), _task("prepare-data", "SUCCEEDED")]),
            ("RUNNING", [_task("train-collab", "PENDING"), _task("prepare-data", "SUCCEEDED")]),
            ("SUCCEEDED", [_task(name, "SUCCEEDED") for name in ("promote", "train-collab", "prepare-data")]),
        ]
    )

    def next_look(run: models.V2beta1Run) -> None:
        now, tasks = next(looks)
        _show(run, now, *tasks)

    state.on_read = next_look
    told: list[str] = []
    assert wait(cluster, run_id, told.append, poll=0).run_id == run_id
    assert told == [
        "prepare-data: running",
        "prepare-data: succeeded",
        "train-collab: pending",
        "train-collab: succeeded",
        "promote: succeeded",
    ]


@pytest.mark.parametrize(
    ("state", "tasks", "nothing"),
    [
        ("SUCCEEDED", {"prepare-data": "SUCCEEDED", "check-drift": "SUCCEEDED"}, True),
        ("SUCCEEDED", {"check-drift": "SUCCEEDED", "retrain": "SKIPPED", "train-collab": "SKIPPED"}, True),
        ("SUCCEEDED", {"check-drift": "SUCCEEDED", "train-collab": "SUCCEEDED", "promote": "SUCCEEDED"}, False),
        ("FAILED", {"prepare-data": "SUCCEEDED", "check-drift": "FAILED"}, False),
    ],
)
def test_a_run_that_ended_well_with_check_drift_had_nothing_to_do(server, run_id, state, tasks, nothing):
    cluster, kept = server
    kept.on_read = lambda run: _show(run, state, *(_task(*task) for task in tasks.items()))
    assert nothing_to_do(get_run(cluster, run_id)) == nothing


def test_of_shards_the_one_furthest_from_done_is_shown(server, run_id):
    cluster, state = server

    def shown(*shards: str) -> str:
        tasks = [_task("load-champion", "SUCCEEDED"), *(_task("recommend", shard) for shard in shards)]
        state.on_read = lambda run: _show(run, "RUNNING", *tasks)
        return step_states(get_run(cluster, run_id)).states["recommend"]

    assert shown("SUCCEEDED", "RUNNING", "PENDING", "SUCCEEDED") == "RUNNING"
    assert shown("RUNNING", "FAILED", "SUCCEEDED") == "FAILED"
    assert shown("PENDING", "SUCCEEDED") == "PENDING"
    assert shown("SUCCEEDED", "SUCCEEDED") == "SUCCEEDED"


def test_a_failed_run_tells_the_failed_steps_message_and_where_its_log_is(server, run_id):
    cluster, state = server
    tasks = [
        _task("root", "FAILED", task_id="1", error=_error("child failed")),
        _task("prepare-data", "SUCCEEDED", task_id="2"),
        _task("tune-llm", "FAILED", task_id="3", parent_task_id="1"),
        _task("executor", "FAILED", task_id="4", parent_task_id="3", pod_name="pod-7", error=_error("OOMKilled (137)")),
    ]
    state.on_read = lambda run: _show(run, "FAILED", *tasks)
    with pytest.raises(ClusterError) as failure:
        wait(cluster, run_id, lambda line: None, poll=0)
    assert str(failure.value).splitlines() == [
        f"Run {run_id} ended as failed.",
        "Step tune-llm failed: OOMKilled (137)",
        "  its log: kubectl logs -n kubeflow pod-7 -c main",
    ]


def test_a_failed_steps_log_is_shown_where_the_ui_has_it(server, run_id):
    cluster, state = server
    state.pod_logs["pod-7"] = "\n".join(["first", *(f"line {n}" for n in range(38)), "Traceback", "ValueError: é"])
    tasks = [_task("fuse", "FAILED", pod_name="pod-7", error=_error("exit code 1"))]
    state.on_read = lambda run: _show(run, "FAILED", *tasks)
    with pytest.raises(ClusterError) as failure:
        wait(cluster, run_id, lambda line: None, poll=0)
    shown = str(failure.value).splitlines()
    assert shown[2] == "  the end of its log (all of it: kubectl logs -n kubeflow pod-7 -c main):"
    assert shown[3] == "  | line 0"
    assert shown[-1] == "  | ValueError: é"
    assert len(shown) == 3 + 40


def test_a_run_that_failed_outside_its_steps_tells_its_own_message(server, run_id):
    cluster, state = server

    def fail(run: models.V2beta1Run) -> None:
        _show(run, "FAILED")
        run.error = _error("no such service account")

    state.on_read = fail
    with pytest.raises(ClusterError, match="no such service account"):
        wait(cluster, run_id, lambda line: None, poll=0)


def test_a_canceled_run_is_no_success(server, run_id):
    cluster, state = server
    state.on_read = lambda run: _show(run, "CANCELED")
    with pytest.raises(ClusterError, match="ended as canceled"):
        wait(cluster, run_id, lambda line: None, poll=0)


def test_waiting_outlasts_an_api_that_is_away_and_no_expired_token(server, run_id):
    cluster, state = server
    state.on_read = lambda run: _show(run, "SUCCEEDED")
    state.refusals += [(f"GET /runs/{run_id}", 503)] * 2
    assert wait(cluster, run_id, lambda line: None, poll=0).state == "SUCCEEDED"
    state.refusals.append((f"GET /runs/{run_id}", 401))
    with pytest.raises(ClusterError, match=f"(?s)401.*sella status {run_id}"):
        wait(cluster, run_id, lambda line: None, poll=0)


def test_waiting_ends_when_the_api_stays_away(server, run_id, monkeypatch):
    cluster, state = server
    monkeypatch.setattr(runs, "_PATIENCE_SECONDS", 0)
    state.refusals.append((f"GET /runs/{run_id}", 503))
    with pytest.raises(ClusterError, match=f"(?s)503.*the run continues: `sella status {run_id}`"):
        wait(cluster, run_id, lambda line: None, poll=0)


@pytest.fixture
def mlflow(run_id: str, fresh_store: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the MLflow run of a step, on the server that is named as it is for the steps."""
    address = fresh_store()
    monkeypatch.setenv("SELLA_MLFLOW_TRACKING_URI", address)
    # what the command sets is taken back after the test
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    client = MlflowClient(address)
    experiment = client.create_experiment("sella-rec")

    def make(step: str, status: str, **tags: str) -> None:
        made = client.create_run(experiment, tags={"sella.run": run_id, "sella.step": step, **tags})
        client.set_terminated(made.info.run_id, status) if status != "RUNNING" else None

    return make


def test_the_tasks_of_a_real_run_are_told_by_its_steps_alone(server, run_id):
    cluster, state = server
    steps = {"prepare-data": "SUCCEEDED", "check-drift": "SUCCEEDED", "tune-llm": "RUNNING"}
    state.on_read = lambda run: show_run(run, "RUNNING", steps)
    names = [task.display_name for task in get_run(cluster, run_id).run_details.task_details]
    assert {"condition-2(0)", "executor(0)", "tune-llm-driver"} <= set(names)
    assert step_states(get_run(cluster, run_id)).states == steps


def test_where_the_api_has_no_reason_the_steps_mlflow_run_has(server, run_id, mlflow):
    cluster, state = server
    mlflow("prepare-data", "FAILED", **{"sella.error": "data.items: no such file"})
    mlflow("find-champion", "FINISHED")
    state.on_read = lambda run: show_run(run, "FAILED", {"find-champion": "SUCCEEDED", "prepare-data": "FAILED"})
    (failed,) = [
        task for task in get_run(cluster, run_id).run_details.task_details if task.display_name == "prepare-data"
    ]
    assert (failed.error, failed.pod_name, failed.parent_task_id) == (None, None, None)
    with pytest.raises(ClusterError) as failure:
        wait(cluster, run_id, lambda line: None, poll=0)
    label = f"pipeline/runid={run_id},app.kubernetes.io/component=prepare-data"
    assert str(failure.value).splitlines() == [
        f"Run {run_id} ended as failed.",
        "Step prepare-data failed: data.items: no such file",
        f"  its log: kubectl logs -n kubeflow -l {label} -c main --tail=40",
    ]


def test_without_mlflow_the_command_that_shows_the_log_is_named(server, run_id):
    cluster, state = server
    state.on_read = lambda run: show_run(run, "FAILED", {"prepare-data": "FAILED"})
    with pytest.raises(ClusterError) as failure:
        wait(cluster, run_id, lambda line: None, poll=0)
    _, reason, log = str(failure.value).splitlines()
    assert reason == "Step prepare-data failed: the API does not give the reason; see its log"
    assert f"-l pipeline/runid={run_id},app.kubernetes.io/component=prepare-data -c main" in log


def test_a_driver_that_failed_is_told_as_its_steps(server, run_id):
    cluster, state = server
    state.on_read = lambda run: show_run(run, "FAILED", {"prepare-data": "SUCCEEDED", "tune-llm-driver": "FAILED"})
    assert step_states(get_run(cluster, run_id)).states == {"prepare-data": "SUCCEEDED", "tune-llm": "FAILED"}
    with pytest.raises(ClusterError) as failure:
        wait(cluster, run_id, lambda line: None, poll=0)
    _, reason, command = str(failure.value).splitlines()
    assert reason.startswith("Step tune-llm did not start: its driver failed")
    assert f"kubectl get workflow -n kubeflow -l pipeline/runid={run_id}" in command


def test_states_that_the_api_no_longer_updates_come_from_mlflow(server, run_id, mlflow):
    cluster, state = server
    early = {"train-collab": "SUCCEEDED", "align-collab": "SUCCEEDED"}
    state.on_read = lambda run: show_run(run, "RUNNING", early)
    assert step_states(get_run(cluster, run_id)).lines()["align-collab"] == "succeeded"

    mlflow("align-collab", "FINISHED")
    mlflow("fuse", "RUNNING")
    large = early | {"fuse": "SUCCEEDED", "promote": "SUCCEEDED"}
    state.on_read = lambda run: show_run(run, "RUNNING", large, nodes_bytes=1_310_000)
    assert step_states(get_run(cluster, run_id)).lines() == {
        "train-collab": "succeeded",
        "align-collab": "succeeded",
        "fuse": "running (from MLflow)",
    }
    mlflow("evaluate", "FINISHED")
    mlflow("promote", "FAILED", **{"sella.error": "the registry refused"})
    state.on_read = lambda run: show_run(run, "FAILED", large, nodes_bytes=1_310_000)
    told: list[str] = []
    with pytest.raises(ClusterError, match="Step promote failed: the registry refused"):
        wait(cluster, run_id, told.append, poll=0)
    assert told[-2:] == ["evaluate: succeeded (from MLflow)", "promote: failed (from MLflow)"]


def test_an_old_list_of_a_run_that_has_ended_is_told_as_old(server, run_id):
    cluster, _ = server
    run = get_run(cluster, run_id)
    show_run(run, "RUNNING", {"align-collab": "SUCCEEDED"})
    show_run(run, "SUCCEEDED", {"promote": "SUCCEEDED"}, nodes_bytes=1_310_000)
    seen = step_states(run)
    assert seen.states == {"align-collab": "SUCCEEDED"}
    assert seen.note.endswith("set MLFLOW_TRACKING_URI to see the steps' own runs.")


def test_of_shards_mlflow_too_tells_the_one_furthest_from_done(run_id, mlflow):
    for step, status in (("recommend-000", "FINISHED"), ("recommend-001", "RUNNING"), ("summarize", "KILLED")):
        mlflow(step, status)
    records = find_records(run_id)
    assert {step: record.state for step, record in records.items()} == {"recommend": "RUNNING", "summarize": "KILLED"}
    assert find_records("another") == {}


def test_an_mlflow_server_that_does_not_answer_is_named_and_the_run_is_still_told(server, run_id, monkeypatch):
    cluster, state = server
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    state.on_read = lambda run: show_run(run, "FAILED", {"prepare-data": "FAILED"})
    with pytest.raises(ClusterError) as failure:
        wait(cluster, run_id, lambda line: None, poll=0)
    assert "Step prepare-data failed: the API does not give the reason" in str(failure.value)
    assert f"MLFLOW_TRACKING_URI = {address} cannot be asked about the steps" in str(failure.value)
