"""promote: register the trained bundle in MLflow as the challenger."""

from __future__ import annotations

import json
import logging
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl

from components.core.config import Config
from components.core.mlflow_runs import PARENT_TAG, RUN_TAG
from components.core.tracking import Tracker

ALIAS = "challenger"
_PACKAGE = Path(__file__).resolve().parents[1]
_LIBRARIES = ("torch", "transformers", "peft", "safetensors", "polars", "pydantic", "pandas")
_EXAMPLE_ROWS = 3
log = logging.getLogger(__name__)


def promote(config: Config, bundle: Path, evaluation: Path, tracker: Tracker) -> str:
    """Log the bundle as a model of the active MLflow run, register it, and give it the alias `challenger`.

    A step that is tried again finds the version that it registered before.

    Args:
        config: section promote.
        bundle: fuse's folder.
        evaluation: evaluate's folder; SeLLa-Rec's test metrics become tags of the version.
        tracker: receives the version as a parameter.

    Returns:
        The registered version; empty, with a warning in the log, where `MLFLOW_TRACKING_URI` is not set.
    """
    if "MLFLOW_TRACKING_URI" not in os.environ:
        log.warning("MLFLOW_TRACKING_URI is not set: %s is not registered; it is the folder %s", ALIAS, bundle)
        return ""
    from mlflow import MlflowClient

    client, name = MlflowClient(), config.promote.model_name
    registered = _version_of_this_run(client, name) or _register(client, name, bundle, evaluation)
    client.set_registered_model_alias(name, ALIAS, registered)
    tracker.params({"model": name, "version": registered})
    log.info("registered %s version %s as %s", name, registered, ALIAS)
    return registered


def _version_of_this_run(client: Any, name: str) -> str | None:
    found = client.search_model_versions(f"name = '{name}'")
    mine = [v for v in found if v.tags.get(RUN_TAG) == os.environ.get("KFP_RUN_ID")]
    return str(mine[0].version) if mine else None


def _register(client: Any, name: str, bundle: Path, evaluation: Path) -> str:
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
