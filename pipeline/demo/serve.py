"""Serves the page on this machine."""

from __future__ import annotations

from pathlib import Path

import typer
import uvicorn

from pipeline.demo.app import build_app
from pipeline.inference import load_ranker


def serve(bundle: Path, port: int, retrieve: int) -> None:
    """Load a model and show the page until Ctrl-C.

    Raises:
        ConfigError: no such folder.
        BundleError, BackboneError: it cannot be loaded.
    """
    typer.echo(f"Loading {bundle} ...")
    app = build_app(load_ranker(bundle), str(bundle), retrieve)
    typer.echo(f"The page: http://127.0.0.1:{port}/ (Ctrl-C ends it)")
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
