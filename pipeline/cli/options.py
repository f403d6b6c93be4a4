"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.packaged import PACKAGED

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help=f"YAML file, or the name of a packaged one: {', '.join(PACKAGED)}. Default: quickstart.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Override one value, such as fuse.learning_rate=1e-4; repeatable."
    ),
]
