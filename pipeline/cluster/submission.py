"""Puts the DAG onto a cluster: a version of the pipeline, its parameters, and a run of it."""

from __future__ import annotations

import difflib
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kfp_server_api import V2beta1Pipeline

from pipeline.cluster.client import ClusterError, KfpConnection, named
from pipeline.cluster.parameter_checks import check_parameters
from pipeline.compile import compile_pipeline
from pipeline.steps import PIPELINES
from sella_rec.config import Config

# of both pipelines
EXPERIMENT = PIPELINES["train"]
# of parameters that are not text
_TYPES = {"LIST": (list, "a list"), "STRUCT": (dict, "a mapping"), "NUMBER_INTEGER": (int, "a whole number")}


@dataclass(frozen=True)
class Package:
    """The compiled pipeline; `version` names it by its content, `name` is the pipeline's."""

    content: bytes
    version: str
    name: str = PIPELINES["train"]


@dataclass(frozen=True)
class PipelineVersion:
    """A version of the pipeline on a cluster."""

    pipeline_id: str
    id: str
    is_new: bool


def compile_package(pipeline: str = "train") -> Package:
    """Compile a DAG as it is.

    Args:
        pipeline: a key of `pipeline.PIPELINES`.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compile_pipeline(file, pipeline)
        content = file.read_bytes()
    name = PIPELINES[pipeline]
    return Package(content, f"{name}-{hashlib.sha256(content).hexdigest()[:16]}", name)


def upload(cluster: KfpConnection, package: Package) -> PipelineVersion:
    """Make the package a version of the pipeline on the cluster, unless it is one already.

    Raises:
        ClusterError: as `KfpConnection.asking`.
    """
    with cluster.asking():
        pipeline_id = find_pipeline(cluster, package.name) or create_pipeline(cluster, package.name)
        known = cluster.api.list_pipeline_versions(pipeline_id, filter=named(package.version)).pipeline_versions
        if known:
            return PipelineVersion(pipeline_id, known[0].pipeline_version_id, is_new=False)
        version_id = upload_version(cluster, pipeline_id, package.version, package.content)
    return PipelineVersion(pipeline_id, version_id, is_new=True)


def upload_version(cluster: KfpConnection, pipeline_id: str, name: str, content: bytes) -> str:
    """Add a version to a pipeline, and return its id."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        file.write_bytes(content)
        made = cluster.api.upload_pipeline_version(str(file), name, pipeline_id=pipeline_id)
    return made.pipeline_version_id


def arguments(config: Config, package: Package, given: Sequence[str] = ()) -> dict[str, Any]:
    """The pipeline's parameters; what is not given has the pipeline's own default.

    Args:
        given: NAME=VALUE of further parameters, the image among them; a list or a mapping as YAML.

    Raises:
        ClusterError: an unknown parameter, a value that is not of its type, that Kubernetes would refuse, or one that
            is missing.
    """
    parameters = parameters_of(package)
    values: dict[str, Any] = {"config": config.to_json()}
    if "{{" in values["config"]:
        raise ClusterError("the configuration contains '{{', which Argo would take for a template: write it otherwise")
    values |= _given_parameters(given, parameters)
    if not values.get("image"):
        raise ClusterError("no image: --image or SELLA_IMAGE names the steps' image, as the cluster pulls it")
    for name, definition in parameters.items():
        if name not in values and "defaultValue" not in definition:
            raise ClusterError(f"no {name}: --parameter {name}=VALUE. {definition['description']}")
    check_parameters(values)
    return values


def _given_parameters(given: Sequence[str], parameters: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(parameters)}"
            raise ClusterError(f"--parameter {text}: write NAME=VALUE with a parameter of the pipeline{hint}")
        values[name] = _typed(name, value, parameters[name]["parameterType"])
    return values


def parameters_of(package: Package) -> dict[str, Any]:
    """The definitions of the pipeline's parameters, by name: description, type and, where it has one, default."""
    # libyaml's loader, since the one in Python takes a second
    specification = next(iter(yaml.load_all(package.content, yaml.CSafeLoader)))
    parameters: dict[str, Any] = specification["root"]["inputDefinitions"]["parameters"]
    return parameters


def _typed(name: str, text: str, kind: str) -> Any:
    if kind not in _TYPES:
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ClusterError(f"--parameter {name}={text}: {error}") from error
    expected, words = _TYPES[kind]
    if not isinstance(value, expected):
        raise ClusterError(f"--parameter {name}={text}: expected {words}, as YAML or JSON")
    return value


def submit(
    cluster: KfpConnection,
    version: PipelineVersion,
    parameters: dict[str, Any],
    name: str,
    service_account: str | None = None,
) -> str:
    """Start a run, and return its id.

    Args:
        service_account: whose rights the steps' pods have; none: Kubeflow Pipelines' own account.

    Raises:
        ClusterError: as `KfpConnection.asking`.
    """
    with cluster.asking():
        started = cluster.api.run_pipeline(
            experiment_id(cluster),
            name,
            params=parameters,
            pipeline_id=version.pipeline_id,
            version_id=version.id,
            service_account=service_account,
        )
    return started.run_id


def experiment_id(cluster: KfpConnection) -> str:
    """The id of the experiment that holds all runs; it is made if need be."""
    return cluster.api.create_experiment(EXPERIMENT, namespace=cluster.namespace).experiment_id


def find_pipeline(cluster: KfpConnection, name: str) -> str | None:
    """The id of the pipeline of this name on the cluster; none where there is none."""
    known = cluster.api.list_pipelines(filter=named(name), namespace=cluster.namespace).pipelines
    return known[0].pipeline_id if known else None


def create_pipeline(cluster: KfpConnection, name: str) -> str:
    """Make a pipeline without versions on the cluster, and return its id."""
    # kfp's own upload_pipeline would name the first version after the pipeline
    wanted = V2beta1Pipeline(display_name=name, name=name, namespace=cluster.namespace)
    return cluster.api._pipelines_api.pipeline_service_create_pipeline(wanted).pipeline_id
