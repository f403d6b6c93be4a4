"""What the steps ask of a Kubernetes cluster; kfp's local runner passes over all of it.

Names that the cluster has to know (Secrets, volume claims) are constants: the manifests create them under these names.
What differs from run to run (image, accelerators, memory, placement) is a pipeline parameter, in `StepResources`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

from sella_rec.tracking.runs import SERVER_VARIABLES

MODEL_CACHE_CLAIM = "sella-rec-models"
CHECKPOINTS_CLAIM = "sella-rec-checkpoints"
HUGGING_FACE_SECRET = "sella-rec-huggingface"  # key: HF_TOKEN
OBJECT_STORE_SECRET = "sella-rec-object-store"  # keys: AWS_ACCESS_KEY_ID and so on, see below
CHECKPOINT_STORE_SECRET = "sella-rec-checkpoint-store"  # the same keys, for launch.checkpoint_uri
MLFLOW_SECRET = "kfp-mlflow-credentials"  # keys: as SERVER_VARIABLES

_CACHE, _CHECKPOINTS = "/cache", "/checkpoints"
# Paths of the mounts above, for the LLM steps. Not set on a laptop, where `sella run` has its own.
LLM_ENVIRONMENT = {"HF_HOME": f"{_CACHE}/huggingface", "SELLA_CACHE": _CACHE, "SELLA_CHECKPOINTS": _CHECKPOINTS}

_OBJECT_STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
_GPU_TAINT = "nvidia.com/gpu"

# Seconds. A step past its own has failed, and is not tried again; a run past the last has run away.
TIMEOUTS = {"light": 2 * 3600, "collab": 6 * 3600, "llm": 48 * 3600}
DEADLINE = 7 * 24 * 3600
# Argo's workflow objects fill the cluster's database; Kubeflow Pipelines keeps its own record of the run.
KEPT_AFTER_SUCCESS, KEPT_AFTER_FAILURE = 24 * 3600, 7 * 24 * 3600


@dataclass(frozen=True)
class StepResources:
    """The pipeline's parameters that say where and on what its steps run, as kfp's channels.

    Attributes:
        node_selector, tolerations: for the LLM steps, in Kubernetes' own form; the usual GPU taint is tolerated anyway.
    """

    image: Any
    accelerator_type: Any
    llm_cpu: Any
    llm_memory: Any
    node_selector: Any
    tolerations: Any

    def data(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """The step that reads the team's data, wherever it lies."""
        with_object_store(task)
        _with_hugging_face_token(task)
        return self.light(task)

    def light(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """A step that reads, writes and counts."""
        task.set_cpu_request("1").set_memory_request("4Gi").set_memory_limit("16Gi")
        return self._common(task, "light")

    def collab(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """A step that trains the collaborative models, which takes minutes on a few cores."""
        task.set_cpu_request("4").set_memory_request("8Gi").set_memory_limit("32Gi")
        return self._common(task, "collab")

    def llm(self, task: dsl.PipelineTask, accelerators: Any, environment: Mapping[str, str]) -> dsl.PipelineTask:
        """A step that runs the LLM: accelerators, shared memory for their processes, models, checkpoints.

        Args:
            accelerators: a string: Kubeflow Pipelines' driver reads an integer parameter as empty there.
        """
        # kfp passes parameters used in resources into a task group (the exit handler's) only where it is told of them
        task.register_pipeline_channels([self.accelerator_type, accelerators, self.llm_cpu, self.llm_memory])
        # memory as asked and no more: an LLM step that grows beyond it would take others with it
        task.set_cpu_request(self.llm_cpu).set_memory_request(self.llm_memory).set_memory_limit(self.llm_memory)
        task.set_accelerator_type(self.accelerator_type).set_accelerator_limit(accelerators)
        kubernetes.add_node_selector_json(task, self.node_selector)
        kubernetes.add_toleration(task, key=_GPU_TAINT, operator="Exists", effect="NoSchedule")
        kubernetes.add_toleration_json(task, self.tolerations)
        # NCCL and the data loaders need more than the 64 MB that containers get; it counts as the pod's memory
        kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit="8Gi")
        kubernetes.mount_pvc(task, MODEL_CACHE_CLAIM, _CACHE)
        kubernetes.mount_pvc(task, CHECKPOINTS_CLAIM, _CHECKPOINTS)
        _with_hugging_face_token(task)
        for name, value in environment.items():
            task.set_env_variable(name, value)
        return self._common(task, "llm")

    def _common(self, task: dsl.PipelineTask, group: str) -> dsl.PipelineTask:
        task.set_container_image(self.image)
        # under names of their own: where Kubeflow's MLflow plug-in injects a server, that one is meant
        server = {name: f"SELLA_{name}" for name in SERVER_VARIABLES}
        kubernetes.use_secret_as_env(task, MLFLOW_SECRET, server, optional=True)
        # MLflow runs are found by it
        kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
        kubernetes.set_timeout(task, TIMEOUTS[group])
        for key, value in _labels(task.name, group).items():
            kubernetes.add_pod_label(task, key, value)
        return task


def with_retries(task: dsl.PipelineTask, retries: int, backoff: str) -> dsl.PipelineTask:
    """Try a step again whose pod was lost, the pause doubled each time; no other failure, see docs/operations.md."""
    # Argo counts this one from the start of the first attempt, and tries no more once it is over
    longest = f"{DEADLINE}s"
    return task.set_retry(retries, backoff_duration=backoff, backoff_factor=2.0, backoff_max_duration=longest)


def with_object_store(task: dsl.PipelineTask, secret: str = OBJECT_STORE_SECRET) -> dsl.PipelineTask:
    """Give a step a store's credentials, by default those of the team's data and recommendations; no other has them."""
    kubernetes.use_secret_as_env(task, secret, {key: key for key in _OBJECT_STORE_KEYS}, optional=True)
    return task


def _with_hugging_face_token(task: dsl.PipelineTask) -> None:
    # optional, as every Secret here: public models and data need none
    kubernetes.use_secret_as_env(task, HUGGING_FACE_SECRET, {"HF_TOKEN": "HF_TOKEN"}, optional=True)


def pipeline_config() -> dsl.PipelineConfig:
    """How long a run may last and what is left of it in the cluster."""
    return dsl.PipelineConfig(
        ttl_seconds_after_success=KEPT_AFTER_SUCCESS,
        ttl_seconds_after_failure=KEPT_AFTER_FAILURE,
        active_deadline_seconds=DEADLINE,
    )


def _labels(step: str, group: str) -> dict[str, str]:
    """What cost reports group pods by."""
    return {
        "app.kubernetes.io/name": "sella-rec",
        # the manifests' network policies select by it
        "app.kubernetes.io/part-of": "sella-rec",
        "app.kubernetes.io/component": step,
        "sella-rec/resources": group,
    }
