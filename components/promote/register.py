"""Registers a bundle as a version of an MLflow model that carries its own code."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl

from components.core.mlflow_runs import PARENT_TAG, RUN_TAG

_PACKAGE = Path(__file__).resolve().parents[1]
_LIBRARIES = ("torch", "transformers", "peft", "safetensors", "polars", "pydantic", "pandas")
_EXAMPLE_ROWS = 3


def register(client: Any, name: str, bundle: Path, evaluation: Path) -> str:
    """Log the bundle to the active MLflow run and register it under `name`; SeLLa-Rec's test metrics become tags.

    Returns:
        The version.
    """
    import mlflow
    from mlflow.entities import LoggedModelOutput

    example = example_input(bundle)
    sella = json.loads((evaluation / "summary.json").read_text())["arms"]["sella"]["all"]
    logged = mlflow.pyfunc.log_model(
        name=name,
        python_model=str(Path(__file__).with_name("model.py")),
        artifacts={"bundle": str(bundle)},
        code_paths=[str(_PACKAGE)],
        signature=mlflow.models.infer_signature(example, pd.DataFrame({"score": [0.5] * len(example)})),
        pip_requirements=[f"{library}=={version(library)}" for library in _LIBRARIES],
    )
    parent = client.get_run(logged.run_id).data.tags.get(PARENT_TAG)
    if parent:
        # so that the pipeline's page shows the model, not only the step's
        client.log_outputs(parent, [LoggedModelOutput(logged.model_id, step=0)])
    tags = {f"test_{measure}": f"{sella[measure]:.4f}" for measure in ("auc", "uauc") if sella[measure] is not None}
    tags |= {RUN_TAG: os.environ.get("KFP_RUN_ID", "")}
    return str(mlflow.register_model(logged.model_uri, name, tags=tags).version)


def example_input(bundle: Path) -> pd.DataFrame:
    """A few pairs of ids that the bundle knows: columns user_id and item_id."""
    users, items = (
        pl.read_parquet(bundle / f"{kind}s.parquet", columns=[f"{kind}_id"], n_rows=_EXAMPLE_ROWS)
        for kind in ("user", "item")
    )
    n = min(len(users), len(items))
    return pd.concat([users.head(n).to_pandas(), items.head(n).to_pandas()], axis=1)
