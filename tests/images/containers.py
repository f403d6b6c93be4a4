"""Containers run as the manifests and Kubeflow Pipelines run them on a cluster: not as root, on a read-only root file
system, without capabilities. The only network is the loopback of the MLflow server's container."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).parents[2] / "manifests" / "base"
SERVER = "sella-test-mlflow"
URL = "http://localhost:5000"
LOCKED = [
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp"),
    *("--cap-drop=all", "--security-opt=no-new-privileges"),
]
_START_SECONDS = 180


@dataclass(frozen=True)
class Container:
    """How to start one.

    Attributes:
        volumes: path here by path there.
    """

    image: str
    command: list[str]
    network: str = f"container:{SERVER}"
    environment: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, Path] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start in the background; what it prints is in `podman logs`."""
        environment = [f"--env={key}" for key in self.environment]
        volumes = [f"--volume={here}:{there}" for there, here in self.volumes.items()]
        options = [
            f"--name={name}",
            "--detach",
            "--replace",
            f"--network={self.network}",
            *LOCKED,
            *environment,
            *volumes,
        ]
        # values through podman's own environment: nothing secret in the list of processes
        podman("run", *options, *environment, *volumes, self.image, *self.command, environment=self.environment)

    def run(self, name: str) -> str:
        """Run to its end and give what it printed.

        Raises:
            AssertionError: it did not exit with 0.
        """
        self.start(name)
        code, printed = ended(name)
        assert code == 0, f"{name} exited with {code}:\n{printed}"
        return printed


def podman(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        ["podman", *arguments], env={**os.environ, **(environment or {})}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"podman {' '.join(arguments[:3])}: {done.stderr}"
    return done.stdout


def ended(name: str) -> tuple[int, str]:
    """Wait for a container's end, remove it, and give its exit code and what it printed."""
    code = int(podman("wait", name))
    done = subprocess.run(["podman", "logs", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    podman("rm", name)
    return code, done.stdout


def start_mlflow(image: str, folder: Path, secrets: Mapping[str, str]) -> None:
    """The MLflow server of manifests/base/mlflow, after its init container; PostgreSQL answers on a socket.

    Args:
        image: `serve`.
        folder: for the artifacts; the account of the container may write to it.
        secrets: what the manifests' Secrets hold, and libpq's variables; PGHOST is the socket's folder here.
    """
    documents = list(yaml.safe_load_all((MANIFESTS / "mlflow" / "server.yaml").read_text()))
    pod = next(each for each in documents if each["kind"] == "Deployment")["spec"]["template"]["spec"]
    environment = {**_settings(), **secrets, "ARTIFACTS": "/artifacts", "PGHOST": "/run/postgresql"}
    volumes = {"/etc/mlflow": MANIFESTS / "mlflow", "/run/postgresql": Path(secrets["PGHOST"]), "/artifacts": folder}
    first, server = pod["initContainers"][0], pod["containers"][0]
    Container(image, first["command"], "none", environment, volumes).run("sella-test-bootstrap")
    arguments = [re.sub(r"\$\((\w+)\)", lambda match: environment[match[1]], each) for each in server["args"]]
    given = environment | {each["name"]: each["value"] for each in server["env"]}
    Container(image, [*server["command"], *arguments], "none", given, volumes).start(SERVER)
    _wait_for_health()


def _settings() -> dict[str, str]:
    kustomization = yaml.safe_load((MANIFESTS / "mlflow" / "kustomization.yaml").read_text())
    literals = next(each for each in kustomization["configMapGenerator"] if each["name"] == "mlflow-settings")
    return dict(each.split("=", 1) for each in literals["literals"])


def _wait_for_health() -> None:
    probe = f"import urllib.request; urllib.request.urlopen('{URL}/health', timeout=5)"
    until = time.monotonic() + _START_SECONDS
    while subprocess.run(["podman", "exec", SERVER, "python", "-c", probe], capture_output=True).returncode:
        running = json.loads(podman("inspect", SERVER))[0]["State"]["Running"]
        if not running or time.monotonic() > until:
            _, printed = ended(SERVER) if not running else (0, podman("logs", SERVER))
            raise AssertionError(f"the MLflow server does not answer:\n{printed}")
        time.sleep(1)


def in_python(code: str, **more: Any) -> Any:
    """What a program in a container beside the MLflow server prints as JSON in its last line."""
    printed = Container(command=["python", "-c", code], **more).run("sella-test-program")
    return json.loads(printed.strip().splitlines()[-1])
