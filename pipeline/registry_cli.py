"""The commands that change which registered version is in use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.runs import DEFAULT_TRACKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from components.core.registry import Version

Model = Annotated[str, typer.Option("--model", metavar="NAME", help="The registered model.")]
_DEFAULT_MODEL = "sella-rec"
_SERVER = "MLFLOW_TRACKING_URI"
_DATABASE = DEFAULT_TRACKING.removeprefix("sqlite:///")


def promote(
    number: Annotated[str, typer.Argument(metavar="VERSION", help="Its number in MLflow.")],
    model: Model = _DEFAULT_MODEL,
) -> None:
    """Make a registered version the champion, whatever the promotion gate said of it; `sella rollback` undoes it.

    The registry is that of MLFLOW_TRACKING_URI; without it, mlflow.db in this folder.
    """
    from pipeline.cli import _clean_errors

    with _clean_errors():
        from components.core.registry import RegistryError, get_version

        client = connect()
        wanted = get_version(client, model, number)
        if wanted is None:
            raise RegistryError(f"{model} has no version {number}: {_known(client, model)}")
        _replace(client, wanted, "promoted by command")


def rollback(model: Model = _DEFAULT_MODEL) -> None:
    """Bring back the previous champion; once more, and it is as it was.

    The registry is that of MLFLOW_TRACKING_URI; without it, mlflow.db in this folder.
    """
    from pipeline.cli import _clean_errors

    with _clean_errors():
        from components.core.registry import PREVIOUS, RegistryError, find

        client = connect()
        wanted = find(client, model, PREVIOUS)
        if wanted is None:
            raise RegistryError(
                f"{model} has no previous champion: `sella promote VERSION` takes any; {_known(client, model)}"
            )
        _replace(client, wanted, "rolled back by command")


def register(app: typer.Typer) -> None:
    """Add the commands to `sella`."""
    for command in (promote, rollback):
        app.command()(command)


def _replace(client: MlflowClient, wanted: Version, reason: str) -> None:
    from components.core.champion import find_champion, replace_champion
    from components.core.registry import RegistryError

    champion = find_champion(client, wanted.name)
    if champion == wanted:
        typer.echo(f"{wanted.label} is champion already")
        return
    if not replace_champion(client, wanted.name, champion.number if champion else "", wanted.number, reason):
        raise RegistryError(f"somebody else has just changed the champion of {wanted.name}: look at it, then try again")
    before = f"; previous: version {champion.number}" if champion else ""
    typer.echo(f"{wanted.label} is champion now{before}")


def connect() -> MlflowClient:
    """The registry, reached once, so that a server that is not there is told of at once.

    Raises:
        RegistryError: none is named, and none is here.
        TrackingError: it cannot be used.
    """
    from components.core.registry import RegistryError
    from pipeline.local import open_tracking

    if _SERVER not in os.environ and not Path(_DATABASE).is_file():
        raise RegistryError(f"no {_DATABASE} in this folder: set {_SERVER}, or work where `sella run` did")
    os.environ.setdefault(_SERVER, DEFAULT_TRACKING)
    open_tracking()
    from mlflow import MlflowClient

    return MlflowClient()


def _known(client: MlflowClient, model: str) -> str:
    """Which versions there are, in words."""
    numbers = sorted(int(version.version) for version in client.search_model_versions(f"name = '{model}'"))
    return f"there are {', '.join(map(str, numbers))}" if numbers else "none is registered; `sella run` registers one"
