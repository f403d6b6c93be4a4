"""Gathers the results of a finished run in its folder, and shows them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import polars as pl
import yaml
from rich.console import Console
from rich.table import Table

from pipeline.local.progress import duration
from pipeline.local.run_folder import LATEST, RunFolder
from pipeline.steps import STEPS
from sella_rec.files import atomic_output
from sella_rec.runtime.step import STEPS_FILE
from sella_rec.tracking.progress_file import read_progress

_ARM_KEYS = ("auc", "uauc", "ndcg", "map", "rows", "users", "uauc_ci")
_PAIRED_KEYS = ("uauc_diff", "ci")
_NAMES = {"mf": "MF", "lightgcn": "LightGCN", "text_only": "text-only LLM", "sella": "SeLLa-Rec"}


def gather(run: RunFolder, seconds: float) -> bool:
    """Copy bundle, predictions, reports and comparison into the run's folder, and write `summary.json` last.

    Args:
        run: a run whose last step has succeeded.
        seconds: how long the command took.

    Returns:
        Whether a model was trained; if not, the folder holds `drift.html`, `drift.json` and a summary with the reason.
    """
    checked = read_progress(run.progress / "check-drift.json")
    for name, copy in (("report.html", "drift.html"), ("drift.json", "drift.json")):
        shutil.copyfile(Path(checked["result"]["folder"]) / name, run.path / copy)
    retrained = bool(checked["result"]["retrain"])
    summary = _gather_model(run, seconds) if retrained else _nothing_to_do(run, checked, seconds)
    with atomic_output(run.summary) as file:
        file.write_text(json.dumps(summary, indent=2))
    return retrained


def _nothing_to_do(run: RunFolder, checked: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The summary of a run that trained nothing: `nothing_to_do` (the reason), seconds, config, mlflow."""
    return {
        "nothing_to_do": checked["result"]["reason"],
        "seconds": seconds,
        "config": yaml.safe_load(run.config.read_text()),
        "mlflow": _tracked(checked),
    }


def _gather_model(run: RunFolder, seconds: float) -> dict[str, Any]:
    promoted = read_progress(run.progress / "promote.json")
    bundle, evaluation = (Path(promoted["inputs"][name]) for name in ("bundle", "evaluation"))
    with atomic_output(run.path / "bundle") as folder:
        shutil.copytree(bundle, folder)
    for name in ("predictions.parquet", "report.html"):
        shutil.copyfile(evaluation / name, run.path / name)
    shutil.copyfile(promoted["result"]["decision"].pop("page"), run.path / "promotion.html")
    shutil.copyfile(evaluation / "summary.json", run.path / "comparison.json")
    return summarize(run, promoted, evaluation, seconds)


def summarize(run: RunFolder, promoted: dict[str, Any], evaluation: Path, seconds: float) -> dict[str, Any]:
    """The machine-readable result.

    Args:
        promoted: what the last step reported.
        evaluation: evaluate's folder.

    Returns:
        arms: {arm: {slice: {auc, uauc, ndcg, map, rows, users, uauc_ci}}}; paired: {"sella-vs-<arm>": {uauc_diff, ci}};
        steps: {step: {seconds, peak_rss_mb}}, for a cached step those of the run that made it; seconds; peak_rss_mb of
        the hungriest step; config; mlflow: {tracking_uri, experiment, run_id}; model: {name, version};
        decision: {promoted, reason, champion (its version now), checks}.
    """
    comparison = json.loads((evaluation / "summary.json").read_text())
    uncached = ("configure", "find-champion", "check-drift", "promote")
    times = {name: read_progress(run.progress / f"{name}.json") for name in uncached}
    for folder in promoted["inputs"].values():
        times |= json.loads((Path(folder) / STEPS_FILE).read_text())
    steps = {step: {key: times[step][key] for key in ("seconds", "peak_rss_mb")} for step in STEPS}
    return {
        "arms": {
            arm: {name: _pick(values, _ARM_KEYS) for name, values in slices.items()}
            for arm, slices in comparison["arms"].items()
        },
        "paired": {name: _pick(values, _PAIRED_KEYS) for name, values in comparison["paired"].items()},
        "steps": steps,
        "seconds": seconds,
        "peak_rss_mb": max(step["peak_rss_mb"] for step in steps.values()),
        "config": yaml.safe_load(run.config.read_text()),
        "mlflow": _tracked(promoted),
        "model": promoted["result"]["model"],
        "decision": promoted["result"]["decision"],
    }


def _tracked(state: dict[str, Any]) -> dict[str, str]:
    return {"tracking_uri": _without_user(os.environ["MLFLOW_TRACKING_URI"]), **state["mlflow"]}


def _without_user(uri: str) -> str:
    """An address without the user and password that it may carry."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.netloc else uri


def _pick(values: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: values[key] for key in keys}


def show_summary(run: RunFolder, console: Console) -> None:
    """Print the table of arms, the differences, the time of each step, and where to look next; or why there is none."""
    summary = json.loads(run.summary.read_text())
    if "nothing_to_do" in summary:
        console.print(f"Nothing to do: {summary['nothing_to_do']}.\nThe comparison: {run.path}/drift.html")
        return
    console.print(_arms_table(summary["arms"]))
    for name, values in summary["paired"].items():
        other = _NAMES[name.removeprefix("sella-vs-")]
        difference = f"{_number(values['uauc_diff'], '+.4f')}{_interval(values['ci'], '+.4f')}"
        console.print(f"SeLLa-Rec against {other}: UAUC {difference}")
    console.print(f"\n{_decision(summary['model'], summary['decision'])}")
    taken = ", ".join(f"{step} {duration(values['seconds'])}" for step, values in summary["steps"].items())
    console.print(f"\nSteps: {taken}")
    console.print(f"This run: {duration(summary['seconds'])}; peak memory {summary['peak_rss_mb'] / 1024:.1f} GB")
    model = summary["model"]
    user = pl.read_parquet(run.path / "bundle" / "users.parquet", columns=["user_id"], n_rows=1)["user_id"][0]
    sella = os.path.relpath(shutil.which("sella", path=str(Path(sys.executable).parent)) or "sella")
    console.print(
        f"\nNext:\n"
        f"  {LATEST}/report.html    the comparison as a page; in promotion.html the decision\n"
        f"  make ui                    the run in MLflow, at {_page(summary['mlflow'])};\n"
        f"                             registered: {model['name']} version {model['version']}\n"
        f"  {sella} recommend {user}    what this model recommends to a user"
    )


def _decision(model: dict[str, str], decision: dict[str, Any]) -> str:
    """Whether the model was promoted, and why, one line per reason."""
    if decision["promoted"]:
        became = "is now the champion"
    else:
        champion = f"version {decision['champion']}" if decision["champion"] else "none"
        became = f"was not promoted (champion: {champion})"
    reasons = decision["reason"].replace("; ", "\n  ")
    return f"{model['name']} version {model['version']} {became}:\n  {reasons}"


def _page(tracked: dict[str, str]) -> str:
    """Where the run is in the user interface that `make ui` starts; for a server, its address and the run's id."""
    if not tracked["tracking_uri"].startswith("sqlite:"):
        return f"{tracked['tracking_uri']}, run {tracked['run_id']}"
    from mlflow import MlflowClient

    experiment_id = MlflowClient().get_run(tracked["run_id"]).info.experiment_id
    return f"http://127.0.0.1:5000/#/experiments/{experiment_id}/runs/{tracked['run_id']}"


def _arms_table(arms: dict[str, Any]) -> Table:
    table = Table(title="Test split: AUC over all rows, other metrics are means over users")
    for heading in ("arm", "AUC", "UAUC", "95 %", "warm UAUC", "cold UAUC", "NDCG", "MAP"):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for arm, slices in arms.items():
        whole = slices["all"]
        table.add_row(
            _NAMES[arm],
            _number(whole["auc"]),
            _number(whole["uauc"]),
            _interval(whole["uauc_ci"]).strip(),
            *(_number(slices[name]["uauc"]) for name in ("warm", "cold")),
            *(_number(whole[name]) for name in ("ndcg", "map")),
        )
    return table


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _interval(values: list[float] | None, form: str = ".4f") -> str:
    return "" if values is None else f" ({values[0]:{form}} to {values[1]:{form}})"
