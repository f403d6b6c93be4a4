"""Registers a bundle as a version of an MLflow model that carries its own code, with its model card."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import polars as pl

import sella_rec
from components.promote.card import model_card
from sella_rec.config import Config
from sella_rec.environment import pipeline_run
from sella_rec.model.bundle import DATA_REPORT
from sella_rec.model.ranker import RETRIEVE, TOP_N
from sella_rec.tracking.runs import RUN_TAG, pipeline_run_of

CARD = "model_card.md"
_LIBRARY = Path(sella_rec.__path__[0]).resolve()
# What sella_rec needs to load a bundle and rank with it; the rest is for training.
_LIBRARIES = ("torch", "transformers", "peft", "safetensors", "numpy", "polars", "pydantic", "pandas", "pyyaml")
# A registry in a database truncates longer descriptions.
_MAX_DESCRIPTION = 5000


def register(client: Any, config: Config, bundle: Path, evaluation: Path) -> str:
    """Log the bundle to the active MLflow run and register it; SeLLa-Rec's test metrics become tags.

    The model card is the version's description, and is stored with the model and the run as `model_card.md`.

    Args:
        config: that the model was trained with; `promote.model_name` is what it is registered under.

    Returns:
        The version.
    """
    import mlflow

    summary = json.loads((evaluation / "summary.json").read_text())
    name = config.promote.model_name
    card = model_card(config, json.loads((bundle / DATA_REPORT).read_text()), summary)
    with TemporaryDirectory() as folder:
        file = Path(folder) / CARD
        file.write_text(card)
        mlflow.log_artifact(str(file))
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(_LIBRARY / "serving" / "pyfunc.py"),
            artifacts={"bundle": str(bundle), "model_card": str(file)},
            code_paths=[str(_LIBRARY)],
            signature=signature(),
            input_example=example_input(bundle),
            pip_requirements=[f"{library}=={version(library)}" for library in _LIBRARIES],
        )
    _show_with_the_pipeline(client, logged)
    sella = summary["arms"]["sella"]["all"]
    tags = {f"test_{measure}": f"{sella[measure]:.4f}" for measure in ("auc", "uauc") if sella[measure] is not None}
    tags |= {RUN_TAG: pipeline_run() or ""}
    registered = str(mlflow.register_model(logged.model_uri, name, tags=tags).version)
    client.update_model_version(name, registered, description=_description(card))
    return registered


def _show_with_the_pipeline(client: Any, logged: Any) -> None:
    from mlflow.entities import LoggedModelOutput

    pipeline_run = pipeline_run_of(client, logged.run_id).info.run_id
    if pipeline_run != logged.run_id:
        client.log_outputs(pipeline_run, [LoggedModelOutput(logged.model_id, step=0)])


def _description(card: str) -> str:
    if len(card) <= _MAX_DESCRIPTION:
        return card
    rest = f"\n\n(Continued in {CARD}.)"
    return card[: _MAX_DESCRIPTION - len(rest)] + rest


def signature() -> Any:
    """What a request and an answer hold, see `SellaRec.predict`."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    texts = Array(DataType.string)
    asked: dict[str, Any] = {"user_id": DataType.string, "history": texts, "candidates": texts}
    answer = {"item_ids": texts, "titles": texts, "scores": Array(DataType.float), "ranks": Array(DataType.long)}
    return ModelSignature(
        Schema([ColSpec(kind, name, required=False) for name, kind in asked.items()]),
        Schema([ColSpec(kind, name) for name, kind in answer.items()]),
        ParamSchema([ParamSpec("top_n", DataType.long, TOP_N), ParamSpec("retrieve", DataType.long, RETRIEVE)]),
    )


def example_input(bundle: Path) -> pd.DataFrame:
    """Requests that the bundle can answer: a known user's candidates, and the best items for a known and a new user."""
    user = pl.read_parquet(bundle / "users.parquet", n_rows=1)["user_id"][0]
    items = pl.read_parquet(bundle / "items.parquet", n_rows=3)
    return pd.DataFrame(
        {
            "user_id": [user, user, None],
            "history": [None, None, items["title"].to_list()],
            "candidates": [items["item_id"].to_list(), None, None],
        }
    )
