"""Registered versions of the model in MLflow: found by alias, named in one string, their bundles downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sella_rec.errors import UserError
from sella_rec.files import atomic_output
from sella_rec.transient import retrying

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"


class RegistryError(UserError):
    """The registry does not hold what was asked for; the message says what it holds and what to do."""


@dataclass(frozen=True)
class ModelVersion:
    """A registered version.

    Attributes:
        number: as MLflow counts them, from "1".
        model_id: of the logged model behind it: another one under the same name and number is another model.
    """

    name: str
    number: str
    model_id: str

    def __str__(self) -> str:
        # MLflow allows no slash in names
        return f"{self.name}/{self.number}/{self.model_id}"

    @classmethod
    def parse(cls, text: str) -> ModelVersion | None:
        """What `str` wrote, as it travels between steps; None for the empty string, which stands for no version."""
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
    """The version that an alias points to; None where the alias or the model does not exist."""
    from mlflow import MlflowException

    try:
        number = client.get_registered_model(name).aliases.get(alias)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return None if number is None else get_version(client, name, str(number))


def get_version(client: MlflowClient, name: str, number: str) -> ModelVersion | None:
    """A version by its number; None where there is none."""
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
        RegistryError: the version holds no bundle.
    """
    import mlflow

    artifacts = mlflow.models.get_model_info(version.uri).flavors["python_function"].get("artifacts", {})
    if "bundle" not in artifacts:
        raise RegistryError(f"{version.label} was not registered by this pipeline: it holds no bundle")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as temporary, atomic_output(folder) as place:
        source = f"{version.uri}/{artifacts['bundle']['path']}"
        Path(retrying(lambda: mlflow.artifacts.download_artifacts(source, dst_path=temporary))).replace(place)
    return folder
