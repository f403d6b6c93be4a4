"""Serves the page on this machine."""

from __future__ import annotations

from pathlib import Path

import typer
import uvicorn

from pipeline.predict.champion import fetch_champion
from pipeline.predict.demo.app import build_app
from pipeline.predict.scores import load_ranker
from sella_rec.config import PromoteConfig


def serve(bundle: Path | None, port: int, retrieve: int) -> None:
    """Load a model and show the page until Ctrl-C.

    Args:
        bundle: fuse's folder; none: the champion of the registry.

    Raises:
        ConfigError: no such folder.
        RegistryError, TrackingError: there is no champion, or no registry.
        BundleError, BackboneError: it cannot be loaded.
    """
    name = str(bundle)
    if bundle is None:
        bundle, version = fetch_champion(PromoteConfig().model_name)
        name = version.label
    typer.echo(f"Loading {name} ...")
    app = build_app(load_ranker(bundle), name, retrieve)
    typer.echo(f"Open http://127.0.0.1:{port}/ (stop with Ctrl-C)")
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
