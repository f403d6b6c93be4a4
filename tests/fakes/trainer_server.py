"""A small server that speaks the part of the Kubernetes API that a TrainJob takes, and runs its nodes as processes.

What Kubeflow Trainer 2.3 refuses is refused: fields that its models do not know, environment in runtime patches. Each
node's command runs on this machine, with the variables of torchrun as Trainer's plug-in for PyTorch sets them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubeflow_trainer_api import models

from tests.fakes.api import ApiHandler, RefusedError, refuse_as_told

TRAINER = "/apis/trainer.kubeflow.org/v1alpha1"
JOBS = f"{TRAINER}/namespaces/kubeflow/trainjobs"
PODS = "/api/v1/namespaces/kubeflow/pods"
CREATED = "2026-11-24T00:00:00Z"
RUNTIME = {
    "apiVersion": "trainer.kubeflow.org/v1alpha1",
    "kind": "ClusterTrainingRuntime",
    "metadata": {"name": "torch-distributed", "labels": {"trainer.kubeflow.org/framework": "torch"}},
    "spec": {
        "mlPolicy": {"numNodes": 1, "torch": {}},
        "template": {
            "spec": {
                "replicatedJobs": [
                    {
                        "name": "node",
                        "template": {
                            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
                            "spec": {"template": {"spec": {"containers": [{"name": "node", "image": "torch"}]}}},
                        },
                    }
                ]
            }
        },
    },
}


@dataclass
class State:
    """What the server holds, and what it was asked.

    Attributes:
        pods: the pods of steps, by name.
        jobs: TrainJobs by name.
        nodes: processes of each job's nodes; their logs lie in `logs`.
        bodies: of the TrainJobs that were asked for, in order.
        requests: method and path of each request.
        refusals: (method and path, status) to answer instead, once each.
        command: what nodes run instead of their own, in a shell; none: their own.
        pending: new pods wait so many reads before they start.
    """

    logs: Path
    pods: dict[str, Any] = field(default_factory=dict)
    jobs: dict[str, Any] = field(default_factory=dict)
    nodes: dict[str, list[subprocess.Popen]] = field(default_factory=dict)
    bodies: list[Any] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    refusals: list[tuple[str, int]] = field(default_factory=list)
    command: str | None = None
    pending: int = 0

    def start(self, body: Any) -> None:
        name, trainer = body["metadata"]["name"], body["spec"]["trainer"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        given = {variable["name"]: variable["value"] for variable in trainer["env"] if "value" in variable}
        started = []
        for rank in range(trainer["numNodes"]):
            torchrun = {
                "PET_NNODES": str(trainer["numNodes"]),
                "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
                "PET_NODE_RANK": str(rank),
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": str(port),
            }
            own = [sys.executable if part == "python" else part for part in trainer["command"]]
            command = ["sh", "-c", self.command] if self.command else own
            with self.log(name, rank).open("wb") as log:
                environment = {**os.environ, **given, **torchrun}
                process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            started.append(process)
        self.nodes[name] = started

    def log(self, name: str, rank: int) -> Path:
        return self.logs / f"{name}-{rank}.log"

    def phase(self, process: subprocess.Popen) -> str:
        if self.pending:
            return "Pending"
        return {None: "Running", 0: "Succeeded"}.get(process.poll(), "Failed")

    def fail_together(self, name: str) -> None:
        """A job ends with its first failed node, as a JobSet does."""
        nodes = self.nodes.get(name, [])
        if "Failed" in [self.phase(process) for process in nodes]:
            for process in nodes:
                process.terminate()

    def end(self, name: str) -> None:
        for process in self.nodes.pop(name, []):
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def job(self, name: str) -> Any:
        phases = [self.phase(process) for process in self.nodes.get(name, [])]
        made = self.jobs[name]
        if phases and "Failed" in phases:
            told = {"type": "Failed", "status": "True", "message": "jobset failed due to one or more job failures"}
        elif phases and set(phases) == {"Succeeded"}:
            told = {"type": "Complete", "status": "True", "message": "jobset completed successfully"}
        else:
            return made
        return made | {"status": {"conditions": [told | {"reason": "JobSet", "lastTransitionTime": CREATED}]}}

    def job_pods(self) -> list[Any]:
        self.pending = max(0, self.pending - 1)
        return [
            {
                "metadata": {
                    "name": f"{name}-node-0-{rank}",
                    "creationTimestamp": CREATED,
                    "labels": {
                        "jobset.sigs.k8s.io/jobset-name": name,
                        "jobset.sigs.k8s.io/replicatedjob-name": "node",
                        "batch.kubernetes.io/job-completion-index": str(rank),
                    },
                },
                "spec": {"containers": [{"name": "node"}]},
                "status": {"phase": self.phase(process)},
            }
            for name, processes in self.nodes.items()
            for rank, process in enumerate(processes)
        ]


@contextmanager
def serve(logs: Path) -> Iterator[tuple[str, State]]:
    """Address and state of a server that lives as long as the context; nodes that are left are ended with it."""
    state = State(logs)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", state
    finally:
        for name in list(state.nodes):
            state.end(name)
        server.shutdown()
        server.server_close()


class _Handler(ApiHandler):
    state: State

    def answer(self) -> None:
        url = urlsplit(self.path)
        asked = f"{self.command} {url.path}"
        self.state.requests.append(asked)
        if asked.endswith("/log"):
            self._send_log(url.path.split("/")[-2], "follow" in parse_qs(url.query))
            return
        try:
            refuse_as_told(self.state.refusals, asked)
            status, said = 200, self._act(asked)
        except RefusedError as refused:
            status, said = refused.status, {"kind": "Status", "message": str(refused), "code": refused.status}
        self.send(status, json.dumps(said).encode())

    def _send_log(self, pod: str, follow: bool) -> None:
        name, _, rank = pod.rpartition("-node-0-")
        if name not in self.state.nodes:
            self.send(404, b"{}")
            return
        process = self.state.nodes[name][int(rank)]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        with self.state.log(name, int(rank)).open("rb") as log:
            while True:
                self.state.fail_together(name)
                ended = process.poll() is not None
                self.wfile.write(log.read())
                if ended or not follow:
                    return
                time.sleep(0.05)

    def _act(self, asked: str) -> Any:
        method, path = asked.split()
        if path == f"{TRAINER}/clustertrainingruntimes/torch-distributed":
            return RUNTIME
        if asked == f"POST {JOBS}":
            return self._create(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        if path.startswith(JOBS) and (name := path.rpartition("/")[2]) in self.state.jobs:
            if method == "DELETE":
                self.state.end(name)
                return self.state.jobs.pop(name)
            return self.state.job(name)
        if asked == f"GET {PODS}":
            return {"kind": "PodList", "items": self.state.job_pods()}
        if path.startswith(PODS) and (name := path.rpartition("/")[2]) in self.state.pods:
            return self.state.pods[name]
        if asked == "GET /api/v1/namespaces/kubeflow/events":
            return {"kind": "EventList", "items": [_unschedulable(pod) for pod in self.state.job_pods()]}
        raise RefusedError(404, f"{path} not found")

    def _create(self, body: Any) -> Any:
        name = body["metadata"]["name"]
        if name in self.state.jobs:
            raise RefusedError(409, f"{name} already exists")
        if json.loads(models.TrainerV1alpha1TrainJob.from_dict(body).to_json()) != body:
            raise RefusedError(400, "strict decoding error: unknown field")
        for patch in body["spec"]["runtimePatches"]:
            for job in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
                if any(container.get("env") for container in job["template"]["spec"]["template"]["spec"]["containers"]):
                    raise RefusedError(400, "must not have envs for the node container")
        self.state.bodies.append(body)
        made = body | {"metadata": body["metadata"] | {"namespace": "kubeflow", "creationTimestamp": CREATED}}
        self.state.jobs[name] = made
        self.state.start(body)
        return made


def _unschedulable(pod: Any) -> Any:
    return {
        "metadata": {"name": "event", "namespace": "kubeflow"},
        "involvedObject": {"kind": "Pod", "name": pod["metadata"]["name"]},
        "reason": "FailedScheduling",
        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu",
        "firstTimestamp": CREATED,
    }
