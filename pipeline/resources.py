"""What the steps ask of a Kubernetes cluster; kfp's local runner passes over all of it.

Names that the cluster has to know (Secrets, volume claims) are constants: the manifests create them under these names.
What differs from run to run (image, accelerators, memory, placement) is a pipeline parameter, in `Placement`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import wraps
from typing import Annotated, Any, get_args, get_type_hints

from kfp import dsl, kubernetes

from sella_rec.environment import CACHE, CHECKPOINTS, PIPELINE_RUN
from sella_rec.object_store import OBJECT_STORE_VARIABLES
from sella_rec.tracking.runs import SERVER_VARIABLES

MODEL_CACHE_CLAIM = "sella-rec-models"
CHECKPOINTS_CLAIM = "sella-rec-checkpoints"
HUGGING_FACE_SECRET = "sella-rec-huggingface"  # key: HF_TOKEN
OBJECT_STORE_SECRET = "sella-rec-object-store"  # keys: as OBJECT_STORE_VARIABLES
CHECKPOINT_STORE_SECRET = "sella-rec-checkpoint-store"  # the same keys, for launch.checkpoint_uri
MLFLOW_SECRET = "kfp-mlflow-credentials"  # keys: as SERVER_VARIABLES

_CACHE, _CHECKPOINTS = "/cache", "/checkpoints"
# Paths of the mounts above, for the LLM steps. Not set on a laptop, where `sella run` has its own.
LLM_ENVIRONMENT = {"HF_HOME": f"{_CACHE}/huggingface", CACHE: _CACHE, CHECKPOINTS: _CHECKPOINTS}

USER = 10001  # the images' own; volumes have to let it write
_GPU_TAINT = "nvidia.com/gpu"

# Seconds. A step past its own has failed, and is not tried again; a run past the last has run away.
TIMEOUTS = {"light": 2 * 3600, "collab": 6 * 3600, "llm": 48 * 3600}
DEADLINE = 7 * 24 * 3600
# Argo's workflow objects fill the cluster's database; Kubeflow Pipelines keeps its own record of the run.
KEPT_AFTER_SUCCESS, KEPT_AFTER_FAILURE = 24 * 3600, 7 * 24 * 3600


@dataclass(frozen=True)
class Placement:
    """Where and on what the steps run. Each field is a parameter of the pipelines, and its text that parameter's.

    What ends up in a container is text: Kubeflow Pipelines' driver reads a number there as empty.
    """

    image: Annotated[str, "The container image that every step runs in."]
    accelerator_type: Annotated[str, "The resource that GPU nodes offer."] = "nvidia.com/gpu"
    accelerators: Annotated[
        str,
        "How many tune-llm and fuse take, as text; above 1, training runs on all of them. 0: the CPU alone, or the "
        "accelerators are a TrainJob's (configuration `launch.train_job`).",
    ] = "1"
    scoring_accelerators: Annotated[
        str, "How many an LLM step that does not train takes, as text: 1, or 0 for the CPU alone."
    ] = "1"
    llm_cpu: Annotated[str, "CPU cores that an LLM step asks for."] = "8"
    llm_memory: Annotated[str, "Memory that an LLM step asks for and may use."] = "32Gi"
    node_selector: Annotated[dict, "Labels of the nodes for the LLM steps."] = field(default_factory=dict)
    tolerations: Annotated[list, "Taints that the LLM steps tolerate beside the usual one of GPU nodes."] = field(
        default_factory=list
    )


def with_placement(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a DAG, whose first argument is a Placement of kfp's channels, the fields as parameters, with their texts.

    Args:
        left_out: fields that the pipeline has no use for.
    """
    described = get_type_hints(Placement, include_extras=True)
    placed = [each for each in fields(Placement) if each.name not in left_out]

    def parameter(each: Field[Any]) -> inspect.Parameter:
        made = each.default if each.default_factory is MISSING else each.default_factory()
        default = inspect.Parameter.empty if made is MISSING else made
        kind = get_args(described[each.name])[0]
        return inspect.Parameter(each.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)

    def decorate(dag: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(dag).parameters.values())[1:]
        # those without a default come first, as Python wants it
        parameters = sorted([*map(parameter, placed), *own], key=lambda p: p.default is not inspect.Parameter.empty)
        signature = inspect.Signature(parameters)

        @wraps(dag)
        def pipeline(*channels: Any) -> None:
            given = signature.bind(*channels).arguments
            dag(Placement(**{each.name: given.pop(each.name) for each in placed}), **given)

        pipeline.__signature__ = signature  # type: ignore[attr-defined]
        texts = [f"    {each.name}: {get_args(described[each.name])[1]}" for each in placed]
        pipeline.__doc__ = "\n".join([inspect.cleandoc(dag.__doc__ or ""), *texts])
        return pipeline

    return decorate


@dataclass(frozen=True)
class StepResources:
    """What each kind of step asks for.

    Attributes:
        placement: the pipeline's parameters, as kfp's channels.
    """

    placement: Placement

    def data(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """The step that reads the team's data, wherever it lies."""
        return self.light(with_data_access(task))

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
        asked = self.placement
        # kfp passes parameters used in resources into a task group (the exit handler's) only where it is told of them
        task.register_pipeline_channels([asked.accelerator_type, accelerators, asked.llm_cpu, asked.llm_memory])
        # memory as asked and no more: an LLM step that grows beyond it would take others with it
        task.set_cpu_request(asked.llm_cpu).set_memory_request(asked.llm_memory).set_memory_limit(asked.llm_memory)
        task.set_accelerator_type(asked.accelerator_type).set_accelerator_limit(accelerators)
        kubernetes.add_node_selector_json(task, asked.node_selector)
        kubernetes.add_toleration(task, key=_GPU_TAINT, operator="Exists", effect="NoSchedule")
        kubernetes.add_toleration_json(task, asked.tolerations)
        # NCCL and the data loaders need more than the 64 MB that containers get; it counts as the pod's memory
        kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit="8Gi")
        kubernetes.mount_pvc(task, MODEL_CACHE_CLAIM, _CACHE)
        kubernetes.mount_pvc(task, CHECKPOINTS_CLAIM, _CHECKPOINTS)
        _with_hugging_face_token(task)
        for name, value in environment.items():
            task.set_env_variable(name, value)
        return self._common(task, "llm")

    def _common(self, task: dsl.PipelineTask, group: str) -> dsl.PipelineTask:
        task.set_container_image(self.placement.image)
        # under names of their own: where Kubeflow's MLflow plug-in injects a server, that one is meant
        server = {name: f"SELLA_{name}" for name in SERVER_VARIABLES}
        kubernetes.use_secret_as_env(task, MLFLOW_SECRET, server, optional=True)
        # MLflow runs are found by it
        kubernetes.use_field_path_as_env(task, PIPELINE_RUN, "metadata.labels['pipeline/runid']")
        kubernetes.set_timeout(task, TIMEOUTS[group])
        # KFP sets the rest of the restricted standard itself; fsGroup, which would open volumes, it has no way to set
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
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
    # under names of their own: the launcher, which keeps the run's artifacts, reads AWS_* too
    variables = {key: f"SELLA_{key}" for key in OBJECT_STORE_VARIABLES}
    kubernetes.use_secret_as_env(task, secret, variables, optional=True)
    return task


def with_data_access(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Give a step what it needs to get at the team's data, on an object store or a hub."""
    with_object_store(task)
    _with_hugging_face_token(task)
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
