from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import kfp_server_api as models
import pytest

from components.code_version import code_version
from pipeline.cluster import submission
from pipeline.cluster.client import ClusterError, KfpConnection, connect
from pipeline.cluster.submission import (
    Package,
    arguments,
    compile_package,
    get_run,
    nothing_to_do,
    recent_runs,
    step_states,
    submit,
    upload,
    wait,
)
from sella_rec.config import Config
from tests.fakes.kfp_server import State, serve

ONE = Package(b"a: 1\n", "v-1")


@pytest.fixture
def values(tiny_config: Config, package: Package) -> dict[str, object]:
    return arguments(tiny_config, package, "now", ["image=i:1"])


@pytest.fixture
def server() -> Iterator[tuple[KfpConnection, State]]:
    with serve() as (endpoint, state):
        yield connect(endpoint), state
        assert not state.refusals, "a refusal that no request met"


def _task(name: str, state: str, **more: object) -> models.V2beta1PipelineTaskDetail:
    created = datetime(2026, 1, 1, tzinfo=UTC)
    return models.V2beta1PipelineTaskDetail(display_name=name, state=state, create_time=created, **more)


def _error(message: str) -> models.GoogleRpcStatus:
    return models.GoogleRpcStatus(code=2, message=message)


def _show(run: models.V2beta1Run, state: str, *tasks: models.V2beta1PipelineTaskDetail) -> None:
    run.state, run.run_details = state, models.V2beta1RunDetails(task_details=list(tasks))


@pytest.fixture
def run_id(server: tuple[KfpConnection, State], values: dict[str, object]) -> str:
    cluster, _ = server
    return submit(cluster, upload(cluster, ONE), values, "first")


def test_the_package_is_the_compiled_pipeline_and_its_name_follows_its_content(monkeypatch):
    package = compile_package()
    assert package.content == (Path(__file__).parents[3] / "pipeline.yaml").read_bytes()
    assert package == compile_package()
    monkeypatch.setattr(submission, "compile_pipeline", lambda file, pipeline: file.write_text("another"))
    other = compile_package()
    assert other.version != package.version
    assert other.version.startswith("sella-rec-")


def test_the_parameters_are_those_of_the_pipeline_with_their_types(tiny_config, package):
    tolerations = '[{"key": "spot", "operator": "Exists"}]'
    more = ["image=i:1", "accelerators=2", f"tolerations={tolerations}", "node_selector={pool: gpu}"]
    given = arguments(tiny_config, package, "now", more, "2026-01-01T00:00:00Z")
    assert Config.from_json(given.pop("config")) == tiny_config
    assert given == {
        "image": "i:1",
        "code_version": code_version(),
        "data_version": "now",
        "window_until": "2026-01-01T00:00:00Z",
        "accelerators": "2",
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "node_selector": {"pool": "gpu"},
    }


def test_recommendations_have_a_batch_and_no_data(tiny_config, recommend_package):
    package = recommend_package
    assert package.version.startswith("sella-rec-recommend-")
    given = arguments(tiny_config, package, "now", ["image=i:1", "output=s3://b/all", "shards=8"], batch="today")
    assert Config.from_json(given.pop("config")) == tiny_config
    expected = {"image": "i:1", "output": "s3://b/all", "shards": 8, "batch": "today", "code_version": code_version()}
    assert given == expected
    with pytest.raises(ClusterError, match=r"no output: --parameter output=VALUE\. Where batches go, an fsspec URI"):
        arguments(tiny_config, package, "now", ["image=i:1"], batch="today")
    with pytest.raises(ClusterError, match="shards=many: expected a whole number"):
        arguments(tiny_config, package, "now", ["image=i:1", "shards=many"], batch="today")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no image: --image or SELLA_IMAGE"),
        (["image=i", "accelerator=2"], "did you mean 'accelerator_type'|did you mean 'accelerators'"),
        (["image=i", "accelerators"], "write NAME=VALUE"),
        (["image=i", "tolerations={a: 1}"], "expected a list"),
        (["image=i", "node_selector={a"], "--parameter node_selector={a: "),
    ],
)
def test_parameters_that_cannot_be_are_refused(tiny_config, package, given, message):
    with pytest.raises(ClusterError, match=message):
        arguments(tiny_config, package, "now", given)


def test_a_version_is_uploaded_only_when_its_content_is_new(server):
    cluster, state = server
    first = upload(cluster, ONE)
    assert first.is_new
    again = upload(cluster, ONE)
    assert (again.id, again.is_new) == (first.id, False)
    second = upload(cluster, Package(b"a: 2\n", "v-2"))
    assert second.is_new
    assert second.pipeline_id == first.pipeline_id
    assert state.uploads == {"v-1": b"a: 1\n", "v-2": b"a: 2\n"}
    assert len(state.all("pipelines")) == 1


def test_a_run_is_of_the_version_with_the_parameters_in_the_one_experiment(server, values):
    cluster, state = server
    version = upload(cluster, ONE)
    started = [submit(cluster, version, values, "first"), submit(cluster, version, values, "second", "trainer")]
    first, second = state.all("runs")
    assert [first.service_account, second.service_account] == [None, "trainer"]
    assert started == [first.run_id, second.run_id]
    assert first.display_name == "first"
    assert first.runtime_config.parameters == values
    assert first.pipeline_version_reference.pipeline_version_id == version.id
    assert [made.display_name for made in state.all("experiments")] == ["sella-rec"]
    assert [run.display_name for run in recent_runs(cluster, 5)] == ["second", "first"]
    assert [run.display_name for run in recent_runs(cluster, 1)] == ["second"]
    assert cluster.run_link(first.run_id) == f"{cluster.endpoint}/#/runs/details/{first.run_id}"


def test_waiting_tells_each_change_of_a_step_once(server, run_id):
    cluster, state = server
    looks = iter(
        [
            ("PENDING", []),
            ("RUNNING", [_task("root", "RUNNING"), _task("prepare-data", "RUNNING")]),
            ("RUNNING", [_task("train-collab", "PENDING"), _task("prepare-data", "SUCCEEDED")]),
            ("RUNNING", [_task("train-collab", "PENDING"), _task("prepare-data", "SUCCEEDED")]),
            ("SUCCEEDED", [_task("train-collab", "SUCCEEDED"), _task("prepare-data", "SUCCEEDED")]),
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
        return step_states(get_run(cluster, run_id))["recommend"]

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
        "  its log: kubectl logs pod-7 -c main",
    ]


def test_a_failed_steps_log_is_shown_where_the_ui_has_it(server, run_id):
    cluster, state = server
    state.pod_logs["pod-7"] = "\n".join(["first", *(f"line {n}" for n in range(38)), "Traceback", "ValueError: é"])
    tasks = [_task("fuse", "FAILED", pod_name="pod-7", error=_error("exit code 1"))]
    state.on_read = lambda run: _show(run, "FAILED", *tasks)
    with pytest.raises(ClusterError) as failure:
        wait(cluster, run_id, lambda line: None, poll=0)
    shown = str(failure.value).splitlines()
    assert shown[2] == "  the end of its log (all of it: kubectl logs pod-7 -c main):"
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


@pytest.mark.parametrize(
    ("status", "mend"), [(401, "KFP_EXISTING_TOKEN"), (403, "--namespace"), (409, "run the command again"), (500, "")]
)
def test_a_refusal_is_told_with_its_mend(server, status, mend):
    cluster, state = server
    state.refusals.append(("POST /pipelines/upload_version", status))
    with pytest.raises(ClusterError, match=f"answered {status}: told to answer {status}") as refusal:
        upload(cluster, ONE)
    assert mend in str(refusal.value)


def test_a_token_is_shown_and_a_wrong_one_refused_at_once():
    with serve() as (endpoint, state):
        state.token = "right"
        assert recent_runs(connect(endpoint, token="right"), 1) == []
        before = len(state.requests)
        with pytest.raises(ClusterError, match="401"):
            connect(endpoint, token="wrong")
        assert len(state.requests) == before + 1


def test_a_log_in_page_is_not_taken_for_the_api():
    with serve() as (endpoint, state):
        state.content_type = "text/html; charset=utf-8"
        with pytest.raises(ClusterError, match="not as Kubeflow Pipelines does"):
            connect(endpoint)


def test_waiting_ends_when_the_api_stays_away(server, run_id, monkeypatch):
    cluster, state = server
    monkeypatch.setattr(submission, "_PATIENCE_SECONDS", 0)
    state.refusals.append((f"GET /runs/{run_id}", 503))
    with pytest.raises(ClusterError, match=f"(?s)503.*the run goes on: `sella status {run_id}`"):
        wait(cluster, run_id, lambda line: None, poll=0)


def test_no_endpoint_and_an_unreachable_one_are_told(monkeypatch, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ClusterError, match=f"cannot reach {address}: ") as unreachable:
        connect(address)
    assert unreachable.value.passing
    for variable in ("KF_PIPELINES_ENDPOINT", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match="no Kubeflow Pipelines endpoint: give --endpoint"):
        connect()
