"""Searches the settings of MF and of LightGCN on valid, with the same budget for both, and prints the best.

    python -m benchmarks.tune_collab [--config movielens-1m] [--source FOLDER] [--trials 40]

Optuna's TPE sampler, seed 0; the objective is valid UAUC + valid AUC of the kept epoch. Every trial is a run in MLflow,
experiment `tune-collab`, under one parent a model. Test is not read: it is scored once, with the best settings, over
three seeds, after the search. Needs the extra `benchmarks` (pip install -e '.[benchmarks]').
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import torch

from benchmarks._report import provenance
from components.prepare_data.step import prepare_data
from components.train_collab.step import MODELS
from components.train_collab.training import Fit, fit
from pipeline.packaged import PACKAGED
from sella_rec.collab.models import collab_device, create_model
from sella_rec.config import CollabConfig, load_config
from sella_rec.data.dataset import PreparedData
from sella_rec.metrics.ranking import evaluate_slice
from sella_rec.tracking.tracker import Tracker

SEEDS = (0, 1, 2)


def suggest(trial: optuna.Trial, kind: str) -> dict[str, Any]:
    """A draw of `collab`'s settings for one model; the ranges are the same for both."""
    of_model: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 3e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-3, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5, step=0.1),
        "batch_size": trial.suggest_categorical("batch_size", [1024, 4096, 16384]),
    }
    if kind == "lightgcn":
        of_model["layers"] = trial.suggest_int("layers", 1, 3)
    return {"dim": trial.suggest_categorical("dim", [32, 64, 128]), kind: of_model}


def train(kind: str, settings: dict[str, Any], data: PreparedData, seed: int) -> tuple[Any, Fit]:
    """The trained model and its fit."""
    config = CollabConfig.model_validate(settings)
    torch.manual_seed(seed)
    model = create_model(kind, config, data).to(collab_device())
    return model, fit(model, data, getattr(config, kind), Tracker())


def search(kind: str, data: PreparedData, trials: int) -> dict[str, Any]:
    """The best settings of `kind`."""

    def objective(trial: optuna.Trial) -> float:
        settings = suggest(trial, kind)
        _, found = train(kind, settings, data, seed=0)
        with mlflow.start_run(run_name=f"{kind}-{trial.number}", nested=True):
            mlflow.log_params(trial.params)
            mlflow.log_metrics({key: value for key, value in found.metrics.items() if value is not None})
        return float(found.metrics["valid_auc"] or 0) + float(found.metrics["valid_uauc"] or 0)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    with mlflow.start_run(run_name=kind):
        study.optimize(objective, trials, show_progress_bar=True)
        mlflow.log_params({f"best/{key}": value for key, value in study.best_params.items()})
    return suggest(optuna.trial.FixedTrial(study.best_params), kind)  # type: ignore[arg-type]


def on_test(kind: str, settings: dict[str, Any], data: PreparedData) -> str:
    """One row of the table: mean and standard deviation over the seeds."""
    results = []
    for seed in SEEDS:
        model, fitted = train(kind, settings, data, seed)
        test = evaluate_slice(data.test.user, data.test.label, model.tables(data.train).score_split(data.test))
        results.append([fitted.metrics["valid_auc"], fitted.metrics["valid_uauc"], test["auc"], test["uauc"]])
    mean, deviation = np.mean(results, 0), np.std(results, 0, ddof=1)
    return " | ".join([kind, *(f"{m:.4f} ({d:.4f})" for m, d in zip(mean, deviation, strict=True))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="movielens-1m", choices=PACKAGED)
    parser.add_argument("--source", help="folder or zip of a named data set")
    parser.add_argument("--trials", type=int, default=40)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_experiment("tune-collab")
    config = load_config(PACKAGED[arguments.config], [f"data.source={arguments.source}"] if arguments.source else [])
    with tempfile.TemporaryDirectory() as folder:
        prepare_data(config, Path(folder) / "data", Tracker())
        data = PreparedData(Path(folder) / "data")
        best = {kind: search(kind, data, arguments.trials) for kind in MODELS}
        print("model | valid AUC | valid UAUC | test AUC | test UAUC\n---|---:|---:|---:|---:")
        for kind, settings in best.items():
            print(on_test(kind, settings, data))
    for kind, settings in best.items():
        print(f"{kind}: {settings}")
    print(f"{arguments.trials} trials a model. {provenance(arguments.config, list(SEEDS))}")


if __name__ == "__main__":
    main()
