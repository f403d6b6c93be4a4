"""The pipeline of recommendations: what it asks of a cluster, and a run of it on this machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from pipeline.predict.champion import fetch_champion
from sella_rec.config import Config, RecommendConfig
from sella_rec.runtime.checkpoints import content_digest
from sella_rec.tracking.registry import RegistryError
from tests.pipeline.conftest import clean_environment
from tests.registering import register_bundle

REPOSITORY = Path(__file__).parents[2]
STEPS = {"load-champion", "recommend", "summarize", "finish"}
_RUN = """
import sys
from kfp import local
from pipeline.recommend_dag import build_pipeline
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[1])
build_pipeline(retries=0, backoff="1s", llm_environment={})(
    image="i", output=sys.argv[2], config=sys.argv[3], shards=2
)
"""


@pytest.fixture(scope="module")
def documents() -> tuple[dict[str, Any], dict[str, Any]]:
    spec, platform = yaml.load_all((REPOSITORY / "recommend.yaml").read_text(), yaml.CSafeLoader)
    return spec, platform["platforms"]["kubernetes"]


def test_a_shard_is_a_pod_with_the_llms_resources_and_the_object_stores_credentials(documents):
    containers = documents[0]["deploymentSpec"]["executors"]
    pods = documents[1]["deploymentSpec"]["executors"]
    assert {name.removeprefix("exec-") for name in containers} == STEPS
    for step in STEPS:
        container, pod = containers[f"exec-{step}"]["container"], pods[f"exec-{step}"]
        assert container["image"] == "{{$.inputs.parameters['pipelinechannel--image']}}"
        assert ("accelerator" in container["resources"]) == (step == "recommend")
        given = {entry["secretName"] for entry in pod["secretAsEnv"]}
        assert ("sella-rec-object-store" in given) == (step != "finish")
        assert ("sella-rec-huggingface" in given) == (step == "recommend")
    resources = containers["exec-recommend"]["container"]["resources"]
    assert resources["resourceMemoryLimit"] == "{{$.inputs.parameters['pipelinechannel--llm_memory']}}"
    assert pods["exec-recommend"]["podMetadata"]["labels"]["sella-rec/resources"] == "llm"


def test_a_shard_is_retried_alone_and_nothing_comes_from_the_cache(documents):
    components = documents[0]["components"]
    steps = components["comp-exit-handler-1"]["dag"]["tasks"]
    assert set(steps) == {"load-champion", "for-loop-2", "summarize"}
    assert steps["for-loop-2"]["parameterIterator"]["items"]["inputParameter"].endswith("load-champion-Output")
    assert set(steps["summarize"]["dependentTasks"]) == {"load-champion", "for-loop-2"}
    (shard,) = components["comp-for-loop-2"]["dag"]["tasks"].values()
    for task in (steps["load-champion"], shard, steps["summarize"]):
        assert task["retryPolicy"]["maxRetryCount"] == 2
        assert not task["cachingOptions"].get("enableCache")


def test_every_parameter_is_described_and_reaches_the_shards(documents):
    components, root = documents[0]["components"], documents[0]["root"]
    for name, component in components.items():
        for field, definition in component.get("inputDefinitions", {}).get("parameters", {}).items():
            assert definition.get("description") or field.startswith("pipelinechannel--"), f"{name}: {field}"
    assert all(entry["description"] for entry in root["inputDefinitions"]["parameters"].values())
    for outer, inner in (("comp-exit-handler-1", "for-loop-2"), ("comp-for-loop-2", "recommend")):
        known = set(components[outer]["inputDefinitions"]["parameters"])
        task = components[outer]["dag"]["tasks"][inner]
        referred = {given.get("componentInputParameter") for given in task["inputs"]["parameters"].values()}
        assert referred - {None} <= known


@pytest.fixture(scope="module")
def store(fused: Path, fresh_store: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow store with a champion."""
    import mlflow

    address = fresh_store()
    version = register_bundle(address, fused, tmp_path_factory.mktemp("registry"))
    mlflow.MlflowClient(address).set_registered_model_alias("sella-rec", "champion", version.number)
    return address


def test_the_champion_is_fetched_once_for_this_folder(store, fused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    bundle, version = fetch_champion("sella-rec")
    assert version.label == "sella-rec version 1"
    assert content_digest(bundle) == content_digest(fused)
    before = bundle.stat().st_ino
    assert fetch_champion("sella-rec")[0].stat().st_ino == before
    with pytest.raises(RegistryError, match=r"another has no champion: .*`sella promote VERSION`"):
        fetch_champion("another")


@pytest.mark.slow
def test_the_champion_recommends_to_all_users_and_mlflow_shows_what_that_is_like(store, fused, tmp_path):
    config = Config(recommend=RecommendConfig(top_n=3, retrieve=6)).to_json()
    environment = clean_environment() | {"MLFLOW_TRACKING_URI": store, "KFP_RUN_ID": "run-9"}
    arguments = [str(tmp_path / "steps"), str(tmp_path / "recommended"), config]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # load-champion has named it by the time, once for all shards
    (folder,) = (tmp_path / "recommended").iterdir()
    assert re.fullmatch(r"batch=\d{8}-\d{6}", folder.name)
    manifest = json.loads((folder / "_manifest.json").read_text())
    assert manifest["plan"]["model"] == "sella-rec version 1"
    found = pl.read_parquet(folder / "shard=*" / "part.parquet", hive_partitioning=False)
    assert set(found["user_id"]) == set(pl.read_parquet(fused / "users.parquet")["user_id"])
    assert set(found.group_by("user_id").len()["len"]) == {3}

    import mlflow

    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("sella-rec").experiment_id
    runs = {run.data.tags["sella.step"]: run for run in client.search_runs([experiment], "tags.`sella.run` = 'run-9'")}
    assert set(runs) == {"pipeline", "load-champion", "recommend-000", "recommend-001", "summarize"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    measures = json.loads((folder / "_summary.json").read_text())
    for step in ("pipeline", "summarize"):
        logged = runs[step].data.metrics
        assert {name: logged[name] for name in measures} == pytest.approx(measures)
    assert "sella-rec version 1" in runs["pipeline"].data.tags["mlflow.note.content"]
    assert runs["pipeline"].data.params["backbone.name"] == "embedded:smollm2-135m-instruct"
