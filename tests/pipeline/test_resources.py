"""What the compiled pipeline asks of a cluster."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from pipeline.resources import (
    CHECKPOINT_STORE_SECRET,
    CHECKPOINTS_CLAIM,
    HUGGING_FACE_SECRET,
    MLFLOW_SECRET,
    MODEL_CACHE_CLAIM,
    OBJECT_STORE_SECRET,
    USER,
    Placement,
)
from pipeline.steps import STEPS
from sella_rec.tracking.runs import SERVER_VARIABLES
from tests.pipeline.conftest import groups_of, steps_of

LLM_STEPS = {"tune-llm", "distill-items", "fuse", "evaluate", "score-champion"}
TRAINING_STEPS = {"tune-llm", "fuse"}
COLLAB_STEPS = {"train-collab", "align-collab"}
DATA_STEPS = {"configure", "prepare-data"}
EVERYTHING = {*STEPS, "finish"}


def channel(name: str) -> str:
    return f"{{{{$.inputs.parameters['pipelinechannel--{name}']}}}}"


@pytest.fixture(scope="module")
def documents() -> tuple[dict[str, Any], dict[str, Any]]:
    spec, platform = yaml.safe_load_all((Path(__file__).parents[2] / "pipeline.yaml").read_text())
    return spec, platform["platforms"]["kubernetes"]


@pytest.fixture(scope="module")
def containers(documents) -> dict[str, Any]:
    executors = documents[0]["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}


@pytest.fixture(scope="module")
def pods(documents) -> dict[str, Any]:
    executors = documents[1]["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor for name, executor in executors.items()}


def secrets(pod: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {
        entry["secretName"]: {key["envVar"]: key["secretKey"] for key in entry["keyToEnv"]}
        for entry in pod["secretAsEnv"]
    }


def test_the_image_is_a_parameter_without_a_default(documents, containers):
    assert set(containers) == EVERYTHING
    assert {container["image"] for container in containers.values()} == {channel("image")}
    image = documents[0]["root"]["inputDefinitions"]["parameters"]["image"]
    assert "defaultValue" not in image
    assert not image.get("isOptional")


def test_what_is_put_into_a_container_is_text(documents):
    # Kubeflow Pipelines' driver takes a number there for an empty string
    parameters = documents[0]["root"]["inputDefinitions"]["parameters"]
    for name in ("image", "accelerator_type", "accelerators", "scoring_accelerators", "llm_cpu", "llm_memory"):
        assert parameters[name]["parameterType"] == "STRING"


def test_the_llm_steps_ask_for_accelerators_and_memory_by_parameter(containers):
    for step in EVERYTHING:
        asked = containers[step]["resources"]
        if step not in LLM_STEPS:
            assert "accelerator" not in asked
            assert asked["resourceCpuRequest"] == ("4" if step in COLLAB_STEPS else "1")
            assert asked["resourceMemoryRequest"].endswith("Gi")
            continue
        count = channel("accelerators" if step in TRAINING_STEPS else "scoring_accelerators")
        assert asked == {
            "accelerator": {"resourceCount": count, "resourceType": channel("accelerator_type")},
            "resourceCpuRequest": channel("llm_cpu"),
            "resourceMemoryRequest": channel("llm_memory"),
            "resourceMemoryLimit": channel("llm_memory"),
        }


def test_the_llm_steps_are_placed_and_given_shared_memory_models_and_checkpoints(containers, pods):
    for step in EVERYTHING:
        placed = {"nodeSelector", "tolerations", "emptyDirMounts", "pvcMount"} & set(pods[step])
        if step not in LLM_STEPS:
            assert not placed
            assert "env" not in containers[step]
            continue
        selector = pods[step]["nodeSelector"]["nodeSelectorJson"]
        assert selector == {"componentInputParameter": "pipelinechannel--node_selector"}
        usual, given = pods[step]["tolerations"]
        assert usual == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        assert given == {"tolerationJson": {"componentInputParameter": "pipelinechannel--tolerations"}}
        (shared,) = pods[step]["emptyDirMounts"]
        assert (shared["mountPath"], shared["medium"]) == ("/dev/shm", "Memory")
        mounts = {mount["constant"]: mount["mountPath"] for mount in pods[step]["pvcMount"]}
        assert mounts == {"sella-rec-models": "/cache", "sella-rec-checkpoints": "/checkpoints"}
        environment = {entry["name"]: entry["value"] for entry in containers[step]["env"]}
        assert environment == {
            "HF_HOME": "/cache/huggingface",
            "SELLA_CACHE": "/cache",
            "SELLA_CHECKPOINTS": "/checkpoints",
        }


def test_credentials_come_from_secrets_that_may_be_missing_and_go_only_where_they_are_used(pods):
    for step in EVERYTHING:
        assert all(entry["optional"] for entry in pods[step]["secretAsEnv"])
        given = secrets(pods[step])
        # under another name, so that a server which Kubeflow's plug-in injects goes before it
        assert given["kfp-mlflow-credentials"]["SELLA_MLFLOW_TRACKING_URI"] == "MLFLOW_TRACKING_URI"
        assert ("sella-rec-huggingface" in given) == (step in LLM_STEPS | DATA_STEPS)
        assert ("sella-rec-object-store" in given) == (step in DATA_STEPS)
        assert ("sella-rec-checkpoint-store" in given) == (step in TRAINING_STEPS)
    assert secrets(pods["tune-llm"])["sella-rec-huggingface"] == {"HF_TOKEN": "HF_TOKEN"}
    for step, secret in (("prepare-data", "sella-rec-object-store"), ("fuse", "sella-rec-checkpoint-store")):
        # not as AWS_*, which Kubeflow Pipelines' launcher in the same container would take for its own
        assert secrets(pods[step])[secret] == {
            "SELLA_AWS_ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID",
            "SELLA_AWS_SECRET_ACCESS_KEY": "AWS_SECRET_ACCESS_KEY",
            "SELLA_AWS_ENDPOINT_URL": "AWS_ENDPOINT_URL",
            "SELLA_AWS_DEFAULT_REGION": "AWS_DEFAULT_REGION",
        }


def test_steps_run_as_the_images_account(pods):
    dockerfile = (Path(__file__).parents[2] / "images" / "Dockerfile").read_text()
    assert set(re.findall(r"(?m)^USER (.*)$", dockerfile)) == {f"{USER}:{USER}"}
    for step in EVERYTHING:
        assert pods[step]["securityContext"] == {"runAsUser": str(USER), "runAsGroup": str(USER), "runAsNonRoot": True}


def test_steps_and_runs_end_in_time_and_are_cleared_away(documents, pods):
    assert all(int(pods[step]["activeDeadlineSeconds"]) > 0 for step in EVERYTHING)
    run = documents[1]["pipelineConfig"]
    assert max(int(pods[step]["activeDeadlineSeconds"]) for step in EVERYTHING) < run["activeDeadlineSeconds"]
    assert 0 < run["resourceTtlOnSuccess"] < run["resourceTtlOnFailure"]


def test_costs_can_be_told_apart_by_labels(pods):
    for step in EVERYTHING:
        labels = pods[step]["podMetadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "sella-rec"
        assert labels["app.kubernetes.io/component"] == step
        assert (labels["sella-rec/resources"] == "llm") == (step in LLM_STEPS)


def test_retries_wait_longer_each_time(documents):
    tasks = steps_of(documents[0])
    for step in LLM_STEPS | COLLAB_STEPS:
        policy = tasks[step]["retryPolicy"]
        assert policy == {
            "maxRetryCount": 2,
            "backoffDuration": "30s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": "604800s",
        }


def test_the_time_and_the_configuration_reach_configure_alone(documents):
    for step, task in steps_of(documents[0]).items():
        given = task["inputs"]["parameters"]
        if step == "configure":
            assert given["window_until"] == {"componentInputParameter": "pipelinechannel--window_until"}
            assert given["config"] == {"componentInputParameter": "pipelinechannel--config"}
        else:
            source = given["settings"]
            output = source.get("taskOutputParameter", {}).get("outputParameterKey")
            name = output or source["componentInputParameter"].removeprefix("pipelinechannel--configure-")
            assert name == step.replace("-", "_")


def test_every_parameter_that_a_step_refers_to_reaches_its_group(documents):
    components = documents[0]["components"]
    groups = [
        (groups_of(documents[0])[0]["exit-handler-1"], components["comp-exit-handler-1"]),
        (groups_of(documents[0])[1]["condition-2"], components["comp-condition-2"]),
    ]
    for task_of_group, group in groups:
        known = set(group["inputDefinitions"]["parameters"])
        passed = set(task_of_group["inputs"]["parameters"])
        for task in group["dag"]["tasks"].values():
            referred = {p.get("componentInputParameter") for p in task["inputs"]["parameters"].values()} - {None}
            assert referred <= known
            assert referred <= passed


def test_the_manifests_make_what_the_steps_name():
    folder = Path(__file__).parents[2] / "manifests"
    storage = yaml.safe_load_all((folder / "base" / "pipelines" / "storage.yaml").read_text())
    assert {claim["metadata"]["name"] for claim in storage} == {MODEL_CACHE_CLAIM, CHECKPOINTS_CLAIM}
    overlay = folder / "overlays" / "external"
    made = yaml.safe_load((overlay / "kustomization.yaml").read_text())["secretGenerator"]
    secrets = {secret["name"]: overlay / secret["envs"][0] for secret in made if secret["namespace"] == "kubeflow"}
    assert set(secrets) == {HUGGING_FACE_SECRET, OBJECT_STORE_SECRET, CHECKPOINT_STORE_SECRET, MLFLOW_SECRET}
    keys = {
        name: set(re.findall(r"(?m)^(\w+)=", file.with_suffix(".env.example").read_text()))
        for name, file in secrets.items()
    }
    assert keys[MLFLOW_SECRET] == set(SERVER_VARIABLES)
    assert keys[HUGGING_FACE_SECRET] == {"HF_TOKEN"}
    for secret in (OBJECT_STORE_SECRET, CHECKPOINT_STORE_SECRET):
        assert keys[secret] >= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


@pytest.mark.parametrize(("file", "left_out"), [("pipeline.yaml", set()), ("recommend.yaml", {"accelerators"})])
def test_each_placement_field_is_a_parameter_with_its_text_and_default(file, left_out):
    spec = next(yaml.safe_load_all((Path(__file__).parents[2] / file).read_text()))
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    described = get_type_hints(Placement, include_extras=True)
    placed = Placement("an-image")
    assert left_out <= {each.name for each in fields(Placement)}
    for each in fields(Placement):
        if each.name in left_out:
            assert each.name not in parameters
            continue
        assert parameters[each.name]["description"] == described[each.name].__metadata__[0]
        assert parameters[each.name].get("defaultValue", "an-image") == getattr(placed, each.name)
