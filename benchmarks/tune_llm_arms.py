"""Searches the settings of LLM arms on valid, with the same budget for each, and prints the best.

    python -m benchmarks.tune_llm_arms --data FOLDER --arms text-only collm-lightgcn sella-paper-lightgcn \\
        [--trials 8] [--labels 4000]

A trial is one training of stage 1 (text-only) or stage 3 (the others) on so many labels; the other settings are the
configuration's. The first trial is the arm as it is, the others are drawn by Optuna's TPE sampler, seed 0; the
objective is AUC + UAUC of the valid users that the step draws. Test is not read. Every trial is a run in MLflow,
experiment `tune-llm-arms`, under one parent an arm. A search that was killed goes through its finished trials again at
once, from the steps it kept under OUT, and then on. Needs the extra `benchmarks` (pip install -e '.[benchmarks]').
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import optuna

from benchmarks._report import REPOSITORY, provenance
from benchmarks.paper.arms import ARMS, Arm
from benchmarks.paper.rows import stages_of
from benchmarks.paper.run import data_settings, data_state
from pipeline.packaged import PACKAGED
from sella_rec.config import Config, load_config
from sella_rec.outputs import OutputPathError, check_growing_folder

SEED = 0
LLM_ARMS = [name for name, arm in ARMS.items() if arm.kind in ("text_only", "fused")]


def suggest(trial: optuna.Trial | optuna.trial.FixedTrial, arm: Arm) -> dict[str, Any]:
    """A draw of the settings of the stage that makes the arm, three for either stage."""
    drawn: dict[str, Any] = {"rows_per_step": trial.suggest_categorical("rows_per_step", [2, 4, 8])}
    if arm.kind == "text_only":
        drawn["learning_rate"] = trial.suggest_float("learning_rate", 2e-4, 3e-3, log=True)
        drawn["lora_layers"] = trial.suggest_categorical("lora_layers", [8, 15, None])
    else:
        drawn["learning_rate"] = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        drawn["gain"] = trial.suggest_categorical("gain", [0.1, 0.3, 1.0])
    return drawn


def as_configured(arm: Arm, config: Config) -> dict[str, Any]:
    """The arm's own values of what `suggest` draws."""
    configured = arm.configure(config, SEED)
    if arm.kind == "text_only":
        return configured.tune.model_dump(include={"rows_per_step", "learning_rate", "lora_layers"})
    return configured.fuse.model_dump(include={"rows_per_step", "learning_rate", "gain"})


def train(arm: Arm, config: Config, drawn: dict[str, Any], labels: int, version: str, out: Path) -> dict[str, float]:
    """auc and uauc on valid after training on so many labels."""
    section, step = ("tune", "tune-llm") if arm.kind == "text_only" else ("fuse", "fuse")
    settings = getattr(config, section)
    # checked again: model_copy alone would take any value
    settings = settings.model_validate({**settings.model_dump(), **drawn, "max_labels": labels})
    # the arm's best settings so far give way to what is drawn
    searched = replace(arm, fuse=tuple((name, value) for name, value in arm.fuse if name not in drawn))
    stages = stages_of(searched, config.model_copy(update={section: settings}), version, out, SEED)
    metrics = json.loads((stages.folder(step) / "metrics.json").read_text())
    found = metrics if arm.kind == "text_only" else metrics["trained"]
    return {name: found[name] for name in ("auc", "uauc")}


def search(arm: Arm, config: Config, trials: int, labels: int, version: str, out: Path) -> optuna.Study:
    """The finished study of one arm."""

    def objective(trial: optuna.Trial) -> float:
        found = train(arm, config, suggest(trial, arm), labels, version, out)
        with mlflow.start_run(run_name=f"{arm.name}-{trial.number}", nested=True):
            mlflow.log_params(trial.params)
            mlflow.log_metrics({f"valid_{name}": value for name, value in found.items()})
        return found["auc"] + found["uauc"]

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
    study.enqueue_trial(as_configured(arm, config))
    with mlflow.start_run(run_name=arm.name):
        study.optimize(objective, trials)
        mlflow.log_params({f"best/{key}": value for key, value in study.best_params.items()})
        mlflow.log_metric("best/valid_auc_plus_uauc", study.best_value)
    return study


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="as of paper.py")
    parser.add_argument("--arms", nargs="+", choices=LLM_ARMS, default=LLM_ARMS, metavar="ARM", help="as of paper.py")
    parser.add_argument("--trials", type=int, default=8, help="an arm; default: 8")
    parser.add_argument("--labels", type=int, default=4000, help="a trial; default: 4000")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "runs" / "tune-llm-arms", metavar="FOLDER")
    parser.add_argument("--config", default="movielens-1m", metavar="FILE", help="YAML file, or a packaged one")
    parser.add_argument("--set", nargs="+", default=[], action="extend", dest="overrides", metavar="FIELD=VALUE")
    options = parser.parse_args(given)
    try:
        check_growing_folder(options.out, ("stages",), "--out")
    except OutputPathError as error:
        parser.error(str(error))
    overrides = [*data_settings(options.data), *options.overrides]
    config = load_config(PACKAGED.get(options.config, options.config), overrides)
    version = data_state(config, options.data)
    mlflow.set_experiment("tune-llm-arms")
    for name in options.arms:
        study = search(ARMS[name], config, options.trials, options.labels, version, options.out)
        print(f"{name}: valid AUC + UAUC {study.best_value:.4f} with {study.best_params}", flush=True)
    print(f"{options.trials} trials of {options.labels} labels an arm. {provenance(options.config, [SEED])}")


if __name__ == "__main__":
    main()
