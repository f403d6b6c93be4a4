"""The compiled DAG in containers of the built images, and what it leaves in MLflow: `.ci/images` builds and sets up.

Where `SELLA_TEST_IMAGES`, the images' tag, is not set, nothing here runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import kfp.local
import pytest
from kfp.components import load_component_from_file
from kfp.local import docker_task_handler

from pipeline.steps import STEPS
from sella_rec.config import Config
from sella_rec.tracking.progress_file import read_progress
from tests.images.containers import SERVER, URL, Container, ended, in_python, podman, start_mlflow

TAG = os.environ.get("SELLA_TEST_IMAGES", "")
pytestmark = [
    pytest.mark.skipif(not TAG, reason="needs images"),
    pytest.mark.timeout(1800),
    # resources, which only a cluster gives
    pytest.mark.filterwarnings("ignore:.*no effect in the current local runner"),
]
TRAIN, SERVE = f"sella-rec:{TAG}", f"sella-rec-serve:{TAG}"
USER = 10001
SAVE_EVERY = 5
RUN = "a-run-in-containers"
SECRETS = {
    "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "of-the-administrator",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "signs-forms",
    "MLFLOW_TRACKING_USERNAME": "pipelines",
    "MLFLOW_TRACKING_PASSWORD": "of-the-pipelines",
    "AWS_ACCESS_KEY_ID": "unused",
    "AWS_SECRET_ACCESS_KEY": "unused",
}
# as kubernetes.use_secret_as_env names them in a pod
CLIENT = {
    "SELLA_MLFLOW_TRACKING_URI": URL,
    "SELLA_MLFLOW_TRACKING_USERNAME": SECRETS["MLFLOW_TRACKING_USERNAME"],
    "SELLA_MLFLOW_TRACKING_PASSWORD": SECRETS["MLFLOW_TRACKING_PASSWORD"],
    "KFP_RUN_ID": RUN,
}


@dataclass
class Work:
    """Folders that stand for a cluster's volumes, and the containers that ran, by step."""

    folder: Path
    tasks: dict[str, Container]

    def volume(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_dir():
            path.mkdir()
            os.chown(path, USER, USER)
        return path

    def fill(self, name: str, source: Path) -> None:
        """Copy a folder that only this account may read."""
        shutil.copytree(source, self.volume(name), dirs_exist_ok=True)
        for path in self.volume(name).rglob("*"):
            os.chown(path, USER, USER)

    def output(self, step: str, name: str) -> Path:
        (found,) = self.volume("steps").glob(f"*/{step}/{name}")
        return found


@pytest.fixture(scope="module")
def work(tiny_backbone: Path, small_ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> Work:
    # pytest's own folders are closed to everyone but root
    folder = Path(os.environ["SELLA_TEST_FOLDER"])
    work = Work(folder, {})
    work.fill("cache", tiny_backbone.parent)
    work.fill("data", small_ratings)
    return work


@pytest.fixture(scope="module")
def mlflow(work: Work) -> Iterator[None]:
    postgres = {name: os.environ[name] for name in ("PGHOST", "PGUSER", "PGPASSWORD", "PGDATABASE")}
    try:
        start_mlflow(SERVE, work.volume("artifacts"), SECRETS | postgres)
        yield
    finally:
        podman("rm", "--force", "--ignore", SERVER)


@pytest.fixture(scope="module")
def config(tiny_config: Config) -> Config:
    tree = tiny_config.model_dump()
    tree["data"] |= {"interactions": "/data/interactions.csv", "items": "/data/items.csv"}
    tree["backbone"]["name"] = "/cache/tiny-llama"
    # bit for bit, so that a training that was killed can be held to one that was not
    tree["deterministic"] = True
    tree["tune"] |= {"rows_per_step": 2, "save_every": SAVE_EVERY}
    tree["fuse"] |= {"max_labels": 80, "rows_per_step": 2}
    tree["evaluate"] |= {"bootstrap_samples": 100, "examples": 2, "max_rows_per_user": 6}
    return Config.model_validate(tree)


@pytest.fixture(scope="module")
def run(work: Work, config: Config, mlflow: None) -> Work:
    """The whole of pipeline.yaml, a container a step. kfp orchestrates; starting a container is ours: kfp's own way
    takes one that has vanished for a success, and knows of no mounts."""

    def run_task(task: docker_task_handler.DockerTaskHandler) -> kfp.local.status.Status:
        step = task.full_command[-1].replace("_", "-")
        volumes = {str(work.volume("steps")): work.volume("steps"), "/data": work.volume("data")}
        volumes |= {f"/{name}": work.volume(name) for name in ("cache", "checkpoints")}
        work.tasks[step] = Container(TRAIN, task.full_command, environment={**task.env_vars, **CLIENT}, volumes=volumes)
        work.tasks[step].run(f"sella-test-{step}")
        return kfp.local.status.Status.SUCCESS

    kfp.local.init(kfp.local.DockerRunner(), pipeline_root=str(work.volume("steps")))
    pipeline = load_component_from_file(str(Path(__file__).parents[2] / "pipeline.yaml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docker_task_handler.DockerTaskHandler, "run", run_task)
        pipeline(image=TRAIN, config=config.to_json())
    return work


def test_every_step_ran_and_left_its_outputs(run: Work):
    assert set(run.tasks) == {*STEPS, "finish"}
    expected = {
        ("prepare-data", "dataset"): "train.parquet",
        ("train-collab", "collab"): "steps.json",
        ("tune-llm", "adapter"): "adapter/adapter_model.safetensors",
        ("distill-items", "semantics"): "steps.json",
        ("align-collab", "aligned"): "steps.json",
        ("fuse", "bundle"): "steps.json",
        ("evaluate", "evaluation"): "summary.json",
    }
    for (step, name), file in expected.items():
        path = run.output(step, name) / file
        assert path.stat().st_size > 0, path
        assert path.stat().st_uid == USER, path
    summary = json.loads((run.output("evaluate", "evaluation") / "summary.json").read_text())
    assert set(summary["arms"]) == {"mf", "lightgcn", "text_only", "sella"}


def test_mlflow_has_the_runs_finished_and_the_model_registered(run: Work):
    code = f"""
import json
from mlflow import MlflowClient
client = MlflowClient()
experiment = client.get_experiment_by_name("sella-rec").experiment_id
runs = client.search_runs([experiment], "tags.`sella.run` = '{RUN}'")
version = client.get_model_version_by_alias("sella-rec", "challenger")
print(json.dumps({{
    "runs": {{r.data.tags["sella.step"]: [r.info.status, r.data.tags.get("mlflow.parentRunId")] for r in runs}},
    "parent": [r.info.run_id for r in runs if r.data.tags["sella.step"] == "pipeline"],
    "artifacts": [file.path for file in client.list_artifacts(runs[-1].info.run_id)],
    "metrics": next(r.data.metrics for r in runs if r.data.tags["sella.step"] == "pipeline"),
    "version": version.version,
}}))
"""
    found = _beside_mlflow(code)
    (parent,) = found["parent"]
    assert found["runs"].pop("pipeline") == ["FINISHED", None]
    assert found["runs"] == {step: ["FINISHED", parent] for step in STEPS}
    assert found["version"] == "1"
    summary = json.loads((run.output("evaluate", "evaluation") / "summary.json").read_text())
    assert found["metrics"]["sella/all/auc"] == pytest.approx(summary["arms"]["sella"]["all"]["auc"])


def test_the_registered_model_scores_in_the_image_that_serves(run: Work):
    code = """
import json, mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/sella-rec@challenger")
answer = model.predict(pd.DataFrame([{"user_id": "1", "candidates": ["1", "2", "3"]}])).iloc[0]
print(json.dumps({"items": answer["item_ids"], "scores": answer["scores"]}))
"""
    answer = _beside_mlflow(code, volumes={"/cache": run.volume("cache")})
    assert answer["items"] == ["1", "2", "3"]
    assert len(answer["scores"]) == 3
    assert all(0 < score < 1 for score in answer["scores"])


def test_steps_are_not_root_and_cannot_write_to_their_image(run: Work):
    code = """
import json, os, socket
def fails(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
print(json.dumps([
    os.getuid(), os.getgid(),
    fails(lambda: open("/app/components/__init__.py", "a")),
    fails(lambda: os.mkdir("/opt/sella/x")),
    fails(lambda: socket.create_connection(("192.0.2.1", 80), timeout=5)),
]))
"""
    uid, gid, *failures = in_python(code, image=TRAIN)
    assert (uid, gid) == (USER, USER)
    assert None not in failures


def test_a_training_ended_by_sigterm_goes_on_to_what_an_undisturbed_one_ends_with(run: Work):
    undisturbed, again = run.output("tune-llm", "adapter"), run.volume("again")
    checkpoints = run.volume("checkpoints-again")
    task = run.tasks["tune-llm"]
    # the same inputs; output and checkpoints of its own, and another run in MLflow
    command = [part.replace(str(undisturbed), "/again/adapter") for part in task.command]
    command = [re.sub(r'"outputFile": "[^"]*"', '"outputFile": "/again/output.json"', part) for part in command]
    task = replace(
        task,
        command=command,
        environment={**task.environment, "KFP_RUN_ID": "ended-by-sigterm"},
        volumes={**task.volumes, "/again": again, "/checkpoints": checkpoints},
    )
    name = "sella-test-ended"
    replace(task, environment={**task.environment, "SELLA_PROGRESS": "/again"}).start(name)
    trained = _steps_trained(again / "tune-llm.json", name)
    # as Argo's executor does: to every process but the first
    podman("exec", name, "sh", "-c", "kill -TERM -1")
    code, printed = ended(name)
    assert code == 128 + signal.SIGTERM, printed
    assert not (again / "adapter").exists(), printed
    kept = [int(path.parent.name.split("-")[1]) for path in checkpoints.glob("*/checkpoint-*/trainer_state.json")]
    # written in time, not only the last that was due
    assert max(kept) >= trained, printed

    assert f"checkpoint-{max(kept)}" in task.run(name)
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (undisturbed, again / "adapter")]
    assert metrics[0] == metrics[1]
    file = Path("adapter", "adapter_model.safetensors")
    assert (again / "adapter" / file).read_bytes() == (undisturbed / file).read_bytes()


def _steps_trained(progress: Path, name: str) -> int:
    """Waits until a few optimizer steps have been made, and says how many."""
    until = time.monotonic() + 180
    while True:
        state = read_progress(progress)
        if state.get("note") == "training" and state["done"] > SAVE_EVERY:
            return int(state["done"])
        assert time.monotonic() < until, podman("logs", name)
        assert state.get("state") != "done"
        time.sleep(0.05)


def _beside_mlflow(code: str, **more: Any) -> Any:
    environment = {name.removeprefix("SELLA_"): value for name, value in CLIENT.items()}
    return in_python(code, image=SERVE, environment=environment, **more)
