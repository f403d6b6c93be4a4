from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipeline.cluster import submission
from pipeline.cluster.client import ClusterError, connect
from pipeline.cluster.runs import recent_runs
from pipeline.cluster.submission import Package, arguments, compile_package, submit, upload
from sella_rec.config import Config
from tests.fakes.kfp_server import serve

ONE = Package(b"a: 1\n", "v-1")


@pytest.fixture
def values(tiny_config: Config, package: Package) -> dict[str, object]:
    return arguments(tiny_config, package, ["image=i:1"])


def test_the_package_is_the_compiled_pipeline_and_its_name_follows_its_content(monkeypatch, package):
    assert package.content == (Path(__file__).parents[3] / "pipeline.yaml").read_bytes()
    assert package == compile_package()
    monkeypatch.setattr(submission, "compile_pipeline", lambda file, pipeline: file.write_text("another"))
    other = compile_package()
    assert other.version != package.version
    assert other.version.startswith("sella-rec-")


def test_the_parameters_are_those_of_the_pipeline_with_their_types(tiny_config, package):
    tolerations = '[{"key": "spot", "operator": "Exists"}]'
    more = ["image=i:1", "accelerators=2", f"tolerations={tolerations}", "node_selector={pool: gpu}"]
    given = arguments(tiny_config, package, [*more, "window_until=2026-01-01T00:00:00Z"])
    assert Config.from_json(given.pop("config")) == tiny_config
    assert given == {
        "image": "i:1",
        "window_until": "2026-01-01T00:00:00Z",
        "accelerators": "2",
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "node_selector": {"pool": "gpu"},
    }


def test_what_argo_would_take_for_a_template_is_refused(tiny_config, package):
    prompt = tiny_config.prompt.model_copy(update={"system": "Answer {{workflow.name}}."})
    with pytest.raises(ClusterError, match="Argo would take for a template"):
        arguments(tiny_config.model_copy(update={"prompt": prompt}), package, ["image=i:1"])


def test_recommendations_have_a_batch_and_no_data(tiny_config, recommend_package):
    package = recommend_package
    assert package.version.startswith("sella-rec-recommend-")
    given = arguments(tiny_config, package, ["image=i:1", "output=s3://b/all", "shards=8", "batch=today"])
    assert Config.from_json(given.pop("config")) == tiny_config
    expected = {"image": "i:1", "output": "s3://b/all", "shards": 8, "batch": "today"}
    assert given == expected
    with pytest.raises(ClusterError, match=r"no output: --parameter output=VALUE\. Where batches go, an fsspec URI"):
        arguments(tiny_config, package, ["image=i:1"])
    with pytest.raises(ClusterError, match="shards=many: expected a whole number"):
        arguments(tiny_config, package, ["image=i:1", "output=o", "shards=many"])
    with pytest.raises(ClusterError, match="shards=0: expected at least 1"):
        arguments(tiny_config, package, ["image=i:1", "output=o", "shards=0"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no image: --image or SELLA_IMAGE"),
        (["image=i", "accelerator=2"], "did you mean 'accelerator_type'|did you mean 'accelerators'"),
        (["image=i", "accelerators"], "write NAME=VALUE"),
        (["image=i", "tolerations={a: 1}"], "expected a list"),
        (["image=i", "node_selector={a"], "--parameter node_selector={a: "),
        (["image=i", "accelerators=two"], "accelerators=two: expected a whole number in digits"),
        (["image=i", "accelerators=-1"], "accelerators=-1: expected a whole number in digits"),
        (["image=i", "scoring_accelerators=2"], "scoring_accelerators=2: expected 1, or 0"),
        (
            ["image=i", "llm_memory=64GB"],
            "llm_memory=64GB: expected a quantity of Kubernetes with its unit, such as 64Gi",
        ),
        (["image=i", "llm_memory=64"], "llm_memory=64: expected"),
        (["image=i", "llm_cpu=eight"], "llm_cpu=eight: expected a number of CPU cores"),
        (["image=i", "accelerator_type=gpu"], "accelerator_type=gpu: expected a resource of Kubernetes"),
        (["image=Team/Sella"], "image=Team/Sella: expected an image, .* lower case"),
        (["image=i:1:2"], "image=i:1:2: expected an image"),
        (["image=i", "node_selector={gpu: true}"], "node_selector=.*expected labels whose values are text"),
        (["image=i", "tolerations=[spot]"], "tolerations=.*expected mappings"),
    ],
)
def test_parameters_that_cannot_be_are_refused(tiny_config, package, given, message):
    with pytest.raises(ClusterError, match=message):
        arguments(tiny_config, package, given)


@pytest.mark.parametrize(
    "given",
    [
        "image=REGISTRY.example.com:5000/team/sella-rec:1.4.2",
        "image=registry.example.com/team/sella__rec@sha256:" + "0" * 64,
        "image=localhost/sella-rec-backbone",
        "accelerators=0",
        "llm_memory=1.5Ti",
        "llm_memory=64G",
        "llm_cpu=500m",
        "llm_cpu=0.5",
        "accelerator_type=nvidia.com/mig-1g.10gb",
        "accelerator_type=nvidia.com/gpu.shared",
    ],
)
def test_what_a_cluster_takes_is_taken(tiny_config, package, given):
    name, _, value = given.partition("=")
    assert arguments(tiny_config, package, ["image=i", given])[name] == value


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


@pytest.mark.parametrize(
    ("status", "fix"), [(401, "KFP_EXISTING_TOKEN"), (403, "--namespace"), (409, "run the command again"), (500, "")]
)
def test_a_refusal_is_told_with_its_fix(server, status, fix):
    cluster, state = server
    state.refusals.append(("POST /pipelines/upload_version", status))
    with pytest.raises(ClusterError, match=f"answered {status}: told to answer {status}") as refusal:
        upload(cluster, ONE)
    assert fix in str(refusal.value)


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
