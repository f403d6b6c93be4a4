"""What every command needs: its configuration, a console, and errors shown as one message."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pipeline.packaged import PACKAGED
from sella_rec.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from sella_rec.config import Config

# A log has no width; the table of arms needs about 100.
_LOG_WIDTH = 120


def load(
    config: Path | None,
    overrides: list[str] | None,
    interactions: str | None,
    items: str | None,
    source: str | None,
    backbone: str | None = None,
) -> Config:
    from sella_rec.config import ConfigError, load_config

    if (interactions is None) != (items is None):
        raise ConfigError("use --interactions and --items together: the items hold the titles of the interactions")
    given = {"data.interactions": interactions, "data.items": items, "data.source": source, "backbone.name": backbone}
    paths = [f"{field}={_absolute(value)}" for field, value in given.items() if value is not None]
    return load_config(PACKAGED.get(str(config or "quickstart"), config), [*(overrides or []), *paths])


def _absolute(value: str) -> str:
    try:
        # the bundle remembers it, and may be used from another folder
        return str(Path(value).absolute()) if Path(value).exists() else value
    except OSError:
        # longer than a path, as a query may be, or where nobody may look: who reads it says so
        return value


def open_console() -> Console:
    from rich.console import Console

    # no markup: titles may hold brackets
    width = None if sys.stdout.isatty() else _LOG_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


@contextmanager
def clean_errors() -> Iterator[None]:
    """Show the errors that are meant for users as one message."""
    try:
        yield
    except UserError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # as in `sella score | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
