"""The commands that change which registered version is in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import clean_errors
from sella_rec.names import REGISTERED_MODEL

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from sella_rec.tracking.registry import ModelVersion

Model = Annotated[str, typer.Option("--model", metavar="NAME", help="Name of the registered model.")]


def promote(
    number: Annotated[str, typer.Argument(metavar="VERSION", help="Number of the version in MLflow.")],
    model: Model = REGISTERED_MODEL,
) -> None:
    """Make a registered version the champion, whatever the promotion gate decided; `sella rollback` undoes it.

    The registry is the one at MLFLOW_TRACKING_URI; if that is not set, mlflow.db in the current folder.
    """
    with clean_errors():
        from pipeline.local.tracking import connect
        from sella_rec.tracking.registry import RegistryError, get_version

        client = connect()
        wanted = get_version(client, model, number)
        if wanted is None:
            raise RegistryError(f"{model} has no version {number}: {_known(client, model)}")
        _replace(client, wanted, "promoted by command")


def rollback(model: Model = REGISTERED_MODEL) -> None:
    """Make the previous champion the champion again; a second rollback undoes the first.

    The registry is the one at MLFLOW_TRACKING_URI; if that is not set, mlflow.db in the current folder.
    """
    with clean_errors():
        from pipeline.local.tracking import connect
        from sella_rec.tracking.registry import PREVIOUS, RegistryError, find

        client = connect()
        wanted = find(client, model, PREVIOUS)
        if wanted is None:
            raise RegistryError(
                f"{model} has no previous champion: use `sella promote VERSION`; {_known(client, model)}"
            )
        _replace(client, wanted, "rolled back by command")


def register(app: typer.Typer) -> None:
    """Add the commands to `sella`."""
    for command in (promote, rollback):
        app.command()(command)


def _replace(client: MlflowClient, wanted: ModelVersion, reason: str) -> None:
    from sella_rec.tracking.promotions import find_champion, replace_champion
    from sella_rec.tracking.registry import RegistryError

    champion = find_champion(client, wanted.name)
    if champion == wanted:
        typer.echo(f"{wanted.label} is already the champion")
        return
    if not replace_champion(client, wanted.name, champion.number if champion else "", wanted.number, reason):
        raise RegistryError(
            f"the champion of {wanted.name} has just been changed by someone else: check it in MLflow, then try again"
        )
    before = f"; the previous one is version {champion.number}" if champion else ""
    typer.echo(f"{wanted.label} is now the champion{before}")


def _known(client: MlflowClient, model: str) -> str:
    """Which versions exist, in words."""
    numbers = sorted(int(version.version) for version in client.search_model_versions(f"name = '{model}'"))
    return f"existing: {', '.join(map(str, numbers))}" if numbers else "none is registered; `sella run` registers one"
