"""Registered versions of the model in MLflow: found by alias, named in one string, their bundles downloaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sella_rec.errors import UserError
from sella_rec.files import atomic_output
from sella_rec.transient import retrying

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
_BUCKET_SECONDS = 5


class RegistryError(UserError):
    """The registry does not have what was asked for; the message says what it has and what to do."""


@dataclass(frozen=True)
class ModelVersion:
    """A registered version.

    Attributes:
        number: as MLflow counts them, from "1".
        model_id: of the logged model; a different one under the same name and number is a different model.
    """

    name: str
    number: str
    model_id: str

    def __str__(self) -> str:
        # MLflow allows no slash in names
        return f"{self.name}/{self.number}/{self.model_id}"

    @classmethod
    def parse(cls, text: str) -> ModelVersion | None:
        """Parse what `str` wrote, as steps pass it on; None for the empty string, which stands for no version."""
        return cls(*text.split("/")) if text else None

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.name} version {self.number}"

    @property
    def uri(self) -> str:
        """MLflow's address of the model."""
        return f"models:/{self.name}/{self.number}"


def find(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """The version that an alias points to; None if the alias or the model does not exist.

    Raises:
        mlflow.exceptions.MlflowException: the server does not answer, or refuses.
    """
    from mlflow import MlflowException

    try:
        number = client.get_registered_model(name).aliases.get(alias)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return None if number is None else get_version(client, name, str(number))


def get_version(client: MlflowClient, name: str, number: str) -> ModelVersion | None:
    """A version by its number; None if there is none.

    Raises:
        mlflow.exceptions.MlflowException: the server does not answer, or refuses.
    """
    from mlflow import MlflowException

    try:
        found = client.get_model_version(name, number)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
    return ModelVersion(name, str(found.version), found.model_id or "")


def download_bundle(version: ModelVersion, folder: Path) -> Path:
    """Copy a version's bundle from the tracking server of the environment to `folder`, whole or not at all.

    Returns:
        `folder`, for `load_bundle`.

    Raises:
        RegistryError: the version holds no bundle, or it lies in a bucket that cannot be reached from here.
        mlflow.exceptions.MlflowException: the server does not answer, or has no such version.
    """
    import mlflow

    _check_bucket(version.uri)
    artifacts = mlflow.models.get_model_info(version.uri).flavors["python_function"].get("artifacts", {})
    if "bundle" not in artifacts:
        raise RegistryError(
            f"{version.label} was not registered by this pipeline and holds no bundle; choose another version"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as temporary, atomic_output(folder) as place:
        source = f"{version.uri}/{artifacts['bundle']['path']}"
        Path(retrying(lambda: mlflow.artifacts.download_artifacts(source, dst_path=temporary))).replace(place)
    return folder


def download(uri: str, folder: Path) -> Path:
    """Copy a model, whole, from the tracking server of the environment into `folder`.

    Args:
        uri: any of MLflow's that names a model.

    Returns:
        Where it lies.

    Raises:
        RegistryError: it lies in a bucket that cannot be reached from here.
        mlflow.exceptions.MlflowException: it is not there, or the server does not answer.
    """
    import mlflow

    _check_bucket(uri)
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


def _check_bucket(uri: str) -> None:
    """Ask for a byte where MLflow would fetch a model's files from the bucket itself: it tries each for minutes."""
    from mlflow import MlflowException
    from mlflow.environment_variables import MLFLOW_S3_IGNORE_TLS
    from mlflow.utils.request_utils import augmented_raise_for_status, cloud_storage_http_request

    repository = _proxied(uri)
    if repository is None or not repository._is_multipart_download_enabled():
        return
    try:
        file = repository._get_presigned_download_url("MLmodel")
    except (MlflowException, OSError):
        # no model, or a server that names no bucket: the download goes through the server, and tells
        return
    asked = {"timeout": _BUCKET_SECONDS, "verify": not MLFLOW_S3_IGNORE_TLS.get(), "max_retries": 0}
    try:
        headers = {**file.headers, "Range": "bytes=0-0"}
        augmented_raise_for_status(cloud_storage_http_request("get", file.url, headers=headers, **asked))
    except OSError as error:
        place = urlsplit(file.url)
        # its own text holds the presigned address, which opens the file to whoever reads it
        raise RegistryError(
            f"{uri} cannot be fetched from {place.scheme}://{place.netloc}, where MLflow's server at "
            f"{os.environ.get('MLFLOW_TRACKING_URI')} has its bucket: {_reason(error)}; set "
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false to fetch it through the server"
        ) from None


def _proxied(uri: str) -> Any:
    """MLflow's access to what lies behind its server; None for a model that lies elsewhere."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
    from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

    repository: Any = get_artifact_repository(uri)
    if isinstance(repository, RunsArtifactRepository):
        # a run's model lies beside the run's own files
        repository = repository._get_logged_model_artifact_repo(*repository.parse_runs_uri(uri)) or repository
    while hasattr(repository, "repo"):
        repository = repository.repo
    return repository if isinstance(repository, MlflowArtifactsRepository) else None


def _reason(error: Any) -> str:
    """What went wrong in a request, without its address."""
    answer = getattr(error, "response", None)
    if answer is not None:
        return f"it answers {answer.status_code} {answer.reason}"
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", None) or type(error).__name__)
