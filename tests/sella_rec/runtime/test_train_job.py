"""A step's work handed to a TrainJob of two nodes, over HTTP to a small Kubernetes API that runs the nodes for real."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from kubeflow.trainer import KubernetesBackendConfig
from kubernetes.client import Configuration

from sella_rec.config import load_config
from sella_rec.runtime import supervision, train_job
from sella_rec.runtime.launch import launch
from sella_rec.runtime.preemption import PreemptedError
from sella_rec.runtime.step import Step, whole_settings
from sella_rec.runtime.work import DistributedTrainingError, TrainingDiedError, TrainingUserError
from sella_rec.tracking.tracker import StepTracker
from tests.fakes import trainer_server

ROOT = Path(__file__).parents[3]

HELPER = textwrap.dedent("""
    import os
    import torch
    from torch import distributed

    def adds(step):
        total = torch.ones(1)
        distributed.all_reduce(total)
        print("this line is from rank", os.environ["RANK"], flush=True)
        step.output.mkdir()
        said = (step.inputs["dataset"] / "made").read_text()
        (step.output / "found").write_text(f"{said}, {int(total)} processes, {os.environ['HF_HOME']}")
""")
SETTINGS = ["launch.train_job.nodes=2", "launch.train_job.resources_per_node={nvidia.com/gpu: 1, memory: 64Gi}"]
POD = {
    "metadata": {
        "name": "run-1-tune-llm",
        "uid": "u-1",
        "labels": {
            "app.kubernetes.io/part-of": "sella-rec",
            "sella-rec/resources": "llm",
            "workflows.argoproj.io/workflow": "run-1",
        },
    },
    "spec": {
        "nodeSelector": {"pool": "gpu"},
        "securityContext": {"runAsNonRoot": True},
        "tolerations": [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
        ],
        "volumes": [
            {"name": "var-run-argo", "emptyDir": {}},
            {"name": "kube-api-access", "projected": {"sources": []}},
            {"name": "checkpoints", "persistentVolumeClaim": {"claimName": "sella-rec-checkpoints"}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}},
        ],
        "containers": [
            {"name": "wait", "image": "argoexec"},
            {
                "name": "main",
                "image": "sella-rec:1.4.2",
                "securityContext": {"allowPrivilegeEscalation": False},
                "env": [
                    {"name": "ARGO_CONTAINER_NAME", "value": "main"},
                    {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "KFP_RUN_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['run']"}}},
                    {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "HF_TOKEN"}}},
                    {"name": "HF_HOME", "value": "/cache/huggingface"},
                ],
                "volumeMounts": [
                    {"name": "var-run-argo", "mountPath": "/var/run/argo"},
                    {"name": "checkpoints", "mountPath": "/checkpoints"},
                    {"name": "shared-memory", "mountPath": "/dev/shm"},
                ],
            },
        ],
    },
}


@pytest.fixture
def helper(monkeypatch, tmp_path):
    (tmp_path / "helper.py").write_text(HELPER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    import helper

    return helper


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    for name in ("MLFLOW_TRACKING_URI", "SELLA_LOCK", "SELLA_LOGS", "SELLA_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("KFP_POD_NAME", POD["metadata"]["name"])
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    monkeypatch.setenv("SELLA_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setattr(train_job, "POLL", 0.1)
    with trainer_server.serve(tmp_path) as (address, state):
        state.pods[POD["metadata"]["name"]] = POD
        state.config = KubernetesBackendConfig(namespace="kubeflow", client_configuration=Configuration(host=address))
        yield state


@pytest.fixture
def step(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "made").write_text("films")
    inputs = {"dataset": data}
    config = load_config(None, SETTINGS)
    settings = whole_settings(config.to_json())
    return Step("tune-llm", config, settings, inputs, {}, StepTracker(), None, {}, tmp_path / "output")


@pytest.mark.slow
def test_two_nodes_made_as_the_steps_pod_is_do_the_work(cluster, step, helper, capfd):
    cluster.pending = 3
    train_job.run_train_job(helper.adds, step, cluster.config)
    assert (step.output / "found").read_text() == "films, 2 processes, /cache/huggingface"
    out = capfd.readouterr().out
    assert out.count("this line is from rank 0") == 1
    assert "rank 1" not in out
    assert not cluster.jobs
    (body,) = cluster.bodies
    assert body["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "run-1-tune-llm", "uid": "u-1"}
    ]
    trainer, (patch,) = body["spec"]["trainer"], body["spec"]["runtimePatches"]
    assert (trainer["image"], trainer["numNodes"], trainer["numProcPerNode"]) == ("sella-rec:1.4.2", 2, 1)
    assert trainer["resourcesPerNode"]["limits"] == {"nvidia.com/gpu": "1", "memory": "64Gi"}
    # Secrets stay references, and what is Argo's stays behind
    assert trainer["env"] == [
        {"name": "KFP_RUN_ID", "value": "run-1"},
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "HF_TOKEN"}}},
        {"name": "HF_HOME", "value": "/cache/huggingface"},
    ]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = replicated["template"]["spec"]["template"]
    assert pod["metadata"]["labels"] == {"app.kubernetes.io/part-of": "sella-rec", "sella-rec/resources": "llm"}
    spec = pod["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == ["checkpoints", "shared-memory"]
    assert [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]] == ["/checkpoints", "/dev/shm"]
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["nvidia.com/gpu"]
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["securityContext"] == {"runAsNonRoot": True}


def test_work_that_is_done_is_not_done_again(cluster, step, helper):
    # the step was killed before it had copied the output
    (step.checkpoints / "output").mkdir()
    (step.checkpoints / "output" / "found").write_text("before")
    train_job.run_train_job(helper.adds, step, cluster.config)
    assert (step.output / "found").read_text() == "before"
    assert not cluster.requests


def test_a_failure_is_told_with_the_failed_nodes_log_and_leaves_no_job(cluster, step, helper):
    cluster.command = "if [ $PET_NODE_RANK = 1 ]; then echo LookupError: no such film; exit 1; else sleep 60; fi"
    with pytest.raises(DistributedTrainingError) as failed:
        train_job.run_train_job(helper.adds, step, cluster.config)
    assert "jobset failed due to one or more job failures" in str(failed.value)
    assert "The end of node-1's log" in str(failed.value)
    assert "LookupError: no such film" in str(failed.value)
    assert not cluster.jobs
    assert not step.output.exists()


def test_sigterm_takes_the_job_away(cluster, step, helper):
    cluster.command = "sleep 60"

    def evict():
        while not cluster.nodes:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before, folder = signal.getsignal(signal.SIGTERM), step.checkpoints
    threading.Thread(target=evict, daemon=True).start()
    with pytest.raises(PreemptedError):
        train_job.run_train_job(helper.adds, step, cluster.config)
    assert not cluster.jobs
    assert not cluster.nodes
    assert signal.getsignal(signal.SIGTERM) == before
    # for the next attempt
    assert folder.is_dir()


@pytest.mark.slow
def test_an_api_that_is_away_for_a_moment_does_not_end_the_training(cluster, step, helper, monkeypatch):
    monkeypatch.setenv("SELLA_PATIENCE", "900")
    cluster.command = f"sleep 1; mkdir -p {step.checkpoints / 'output'}"
    job = f"{trainer_server.JOBS}/{step.checkpoints.name}"
    away = (f"GET {job}", f"POST {trainer_server.JOBS}", f"GET {trainer_server.PODS}", f"DELETE {job}")
    cluster.refusals += [(asked, status) for asked in away for status in (500, 503)]
    train_job.run_train_job(helper.adds, step, cluster.config)
    assert not cluster.refusals
    assert step.output.is_dir()
    assert not cluster.jobs


def test_a_job_whose_making_was_not_answered_is_followed(cluster, step, helper, monkeypatch):
    cluster.command = f"mkdir -p {step.checkpoints / 'output'}"
    post = train_job._post

    def unanswered(*arguments):
        post(*arguments)
        post(*arguments)

    monkeypatch.setattr(train_job, "_post", unanswered)
    train_job.run_train_job(helper.adds, step, cluster.config)
    assert len(cluster.bodies) == 1
    assert step.output.is_dir()


def test_a_users_error_in_a_node_is_raised_in_its_own_words(cluster, step, helper):
    cluster.command = f"printf 'tune.epochs: too many' > {step.checkpoints / 'user-error.txt'}; exit 1"
    with pytest.raises(TrainingUserError, match=r"^tune\.epochs: too many$"):
        train_job.run_train_job(helper.adds, step, cluster.config)
    # not told again of an attempt that has another
    cluster.command = "exit 1"
    with pytest.raises(TrainingDiedError, match="jobset failed"):
        train_job.run_train_job(helper.adds, step, cluster.config)


def test_a_job_that_somebody_deleted_is_told_of(cluster, step, helper):
    cluster.command = "sleep 60"

    def delete():
        while not cluster.nodes:
            time.sleep(0.05)
        cluster.jobs.clear()
        cluster.end(step.checkpoints.name)

    threading.Thread(target=delete, daemon=True).start()
    with pytest.raises(DistributedTrainingError, match=r"TrainJob tune-llm-\w+ was deleted while it trained"):
        train_job.run_train_job(helper.adds, step, cluster.config)


def leftover(step, run):
    return {
        "metadata": {"name": step.checkpoints.name, "labels": {"sella-rec/run": run}},
        "spec": {"runtimeRef": {"name": "torch-distributed"}},
    }


def test_what_an_earlier_attempt_left_is_taken_away_and_another_runs_is_not(cluster, step, helper):
    name = step.checkpoints.name
    cluster.jobs[name] = leftover(step, "run-2")
    with pytest.raises(DistributedTrainingError, match="of run run-2 does the same training"):
        train_job.run_train_job(helper.adds, step, cluster.config)
    assert name in cluster.jobs
    cluster.jobs[name] = leftover(step, "run-1")
    cluster.command = f"mkdir -p {step.checkpoints / 'output'}"
    train_job.run_train_job(helper.adds, step, cluster.config)
    assert step.output.is_dir()


def test_a_refusal_is_told(cluster, step, helper):
    cluster.refusals.append((f"POST {trainer_server.JOBS}", 403))
    with pytest.raises(DistributedTrainingError, match=r"Kubernetes refused TrainJob tune-llm-\w+: Forbidden: .*403"):
        train_job.run_train_job(helper.adds, step, cluster.config)


def test_outside_a_pod_the_mend_is_named(step, helper, monkeypatch):
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    monkeypatch.setenv("SELLA_CHECKPOINTS", "/checkpoints")
    with pytest.raises(DistributedTrainingError, match=r"KFP_POD_NAME is not set.* set launch.train_job.nodes=0"):
        launch(helper.adds, step)


def test_nodes_end_when_the_step_that_waits_for_them_is_gone(tmp_path):
    beat = tmp_path / supervision.HEARTBEAT
    beat.touch()
    command = (
        "import sys, time; from pathlib import Path; from sella_rec.runtime import supervision;"
        "supervision.HEARTBEAT_TIMEOUT_SECONDS = 1.5;"
        "supervision.exit_without_heartbeat(Path(sys.argv[1])); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", command, str(beat)], cwd=ROOT) as node:
        for _ in range(4):
            time.sleep(0.5)
            os.utime(beat)
            assert node.poll() is None
        assert node.wait(timeout=20) == -signal.SIGTERM
