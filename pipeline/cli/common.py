"""What every command needs: its configuration, a console, and errors shown as one message."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pipeline.packaged import PACKAGED
from sella_rec.errors import UserError
from sella_rec.outputs import told_refusal
from sella_rec.runtime.supervision import raising_on_signals

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


class _Ended(BaseException):
    """SIGTERM or SIGHUP: as an exception, so that unfinished files are removed."""

    def __init__(self, number: int):
        super().__init__()
        self.code = 128 + number


@contextmanager
def clean_errors() -> Iterator[None]:
    """Show the errors that are meant for users, and a request to end, as one message."""
    try:
        with raising_on_signals((signal.SIGTERM, signal.SIGHUP), _Ended):
            yield
    except UserError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, _Ended) as ended:
        typer.echo("Stopped. What was there before is unchanged.", err=True)
        raise typer.Exit(getattr(ended, "code", 130)) from None
    except BrokenPipeError:
        # as in `sella score | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        told = told_refusal(error)
        if told is None:
            raise
        typer.echo(told, err=True)
        raise typer.Exit(1) from None
