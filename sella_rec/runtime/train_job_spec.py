"""The manifest of the TrainJob that runs a step's work with Kubeflow Trainer (trainer.kubeflow.org/v1alpha1)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sella_rec.config import TrainJobConfig
from sella_rec.environment import PIPELINE_RUN
from sella_rec.runtime.work import WORKER

_TORCHRUN = ("python", "-m", "torch.distributed.run", "-m", WORKER)
RUN_LABEL = "sella-rec/run"
_MAIN, _NODE = "main", "node"
# of Argo's and Kubeflow Pipelines' own, and what Kubernetes puts on every pod
_FOREIGN_VARIABLES = ("ARGO_", "KFP_POD_", "KUBERNETES_")
_OWN_LABELS = ("app.kubernetes.io/", "sella-rec/")
_ON_EVERY_POD = "node.kubernetes.io/"


def train_job(
    name: str, settings: TrainJobConfig, processes: int | None, runtime_kind: str, pod: Mapping[str, Any], job: Path
) -> dict[str, Any]:
    """A TrainJob whose nodes have the image, environment, volumes, labels and placement of a step's pod.

    Args:
        name: of the TrainJob.
        settings: nodes, runtime and a node's resources.
        processes: on each node; none: one per accelerator.
        runtime_kind: `ClusterTrainingRuntime` or `TrainingRuntime`.
        pod: the step's own, as Kubernetes returns it; the job is deleted with it.
        job: the worker's description of the work, at the path where the nodes see it.
    """
    spec = pod["spec"]
    main = next(container for container in spec["containers"] if container["name"] == _MAIN)
    mounts, volumes = _volumes(main, spec)
    node = {"name": _NODE, "volumeMounts": mounts, "securityContext": main.get("securityContext")}
    patch = {
        "volumes": volumes,
        "containers": [_given(node)],
        "imagePullSecrets": spec.get("imagePullSecrets"),
        "securityContext": spec.get("securityContext"),
        "nodeSelector": spec.get("nodeSelector"),
        "tolerations": [t for t in spec.get("tolerations", []) if not t.get("key", "").startswith(_ON_EVERY_POD)],
    }
    labels = {key: value for key, value in pod["metadata"]["labels"].items() if key.startswith(_OWN_LABELS)}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {
            "name": name,
            "labels": labels | {RUN_LABEL: os.environ[PIPELINE_RUN]},
            "ownerReferences": [_owner(pod)],
        },
        "spec": {
            "runtimeRef": {"name": settings.runtime, "kind": runtime_kind},
            "trainer": {
                "image": main["image"],
                "command": [*_TORCHRUN, str(job)],
                "env": _environment(main),
                "numNodes": settings.nodes,
                "numProcPerNode": processes or _accelerators(settings),
                "resourcesPerNode": {"requests": settings.resources_per_node, "limits": settings.resources_per_node},
            },
            "runtimePatches": [
                {"manager": "sella-rec/step", "trainingRuntimeSpec": _for_nodes(labels, _given(patch))},
            ],
        },
    }


def _for_nodes(labels: Mapping[str, str], pod: Mapping[str, Any]) -> dict[str, Any]:
    template = {"spec": {"template": {"metadata": {"labels": labels}, "spec": pod}}}
    return {"template": {"spec": {"replicatedJobs": [{"name": _NODE, "template": template}]}}}


def _owner(pod: Mapping[str, Any]) -> dict[str, str]:
    metadata = pod["metadata"]
    return {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}


def _environment(main: Mapping[str, Any]) -> list[dict[str, Any]]:
    """References to Secrets stay references; a field of the step's own pod becomes the value that it has here."""
    kept = []
    for variable in main.get("env", []):
        name = variable["name"]
        if name.startswith(_FOREIGN_VARIABLES):
            continue
        refers_to_pod = {"fieldRef", "resourceFieldRef"} & set(variable.get("valueFrom", {}))
        kept.append({"name": name, "value": os.environ[name]} if refers_to_pod else variable)
    return kept


def _volumes(main: Mapping[str, Any], spec: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Mounts and volumes of claims and of shared memory: the others are Argo's, or tokens of the service account."""
    volumes = [v for v in spec["volumes"] if "persistentVolumeClaim" in v or v.get("emptyDir", {}).get("medium")]
    names = {volume["name"] for volume in volumes}
    mounts = [mount for mount in main["volumeMounts"] if mount["name"] in names]
    mounted = {mount["name"] for mount in mounts}
    return mounts, [volume for volume in volumes if volume["name"] in mounted]


def _accelerators(settings: TrainJobConfig) -> int:
    """Extended resources have a domain in their name, as `nvidia.com/gpu` has."""
    return sum(int(count) for name, count in settings.resources_per_node.items() if "/" in name) or 1


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value}
