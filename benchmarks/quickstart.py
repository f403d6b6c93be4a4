"""The quickstart's tables of results: the main job with three seeds, every arm on the same test rows.

    python -m benchmarks.quickstart [--seeds 0 1 2] [--write]

Runs `sella run --set seed=...` for each seed in turn (finished seeds come from the cache), prints the tables, and keeps
their numbers in benchmarks/results/quickstart.json; `--write` also puts them into docs/results.md, and a short table
and what the first seed's model recommends to a user into the README.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._report import REPOSITORY, RESULTS_PAGE, provenance, replace_block
from sella_rec.metrics.bootstrap import bootstrap

RESULTS = REPOSITORY / "benchmarks" / "results" / "quickstart.json"
README = REPOSITORY / "README.md"
NAMES = {
    "mf": "matrix factorization",
    "lightgcn": "LightGCN",
    "text_only": "text-only LLM",
    "sella": "**SeLLa-Rec**",
    "late_fusion": "late fusion (reference)",
}
RIVALS = ("mf", "lightgcn", "text_only", "late_fusion")
RESAMPLES = 2000
ASKED = ["recommend", "15", "--top", "5"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--write", action="store_true", help="replace the tables in docs/results.md and README.md")
    arguments = parser.parse_args()
    folders = {seed: run(seed) for seed in arguments.seeds}
    summaries = {seed: read(folder) for seed, folder in folders.items()}
    differences = paired_over_seeds([pl.read_parquet(f / "predictions.parquet") for f in folders.values()])
    source = provenance("embedded MovieLens, SmolLM2-135M-Instruct", arguments.seeds)
    text = "\n".join(
        [*arms_table(summaries), "", *paired_table(differences, summaries), "", *footer(summaries, source)]
    )
    print(text)
    keep(summaries, differences, source)
    if arguments.write:
        replace_block("quickstart", text, RESULTS_PAGE)
        replace_block("result", "\n".join(short_table(summaries, differences)), README)
        replace_block("recommend", answer(folders[arguments.seeds[0]]), README)


def run(seed: int) -> Path:
    """Folder of the finished run with this seed."""
    subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", "run", "--set", f"seed={seed}"], cwd=REPOSITORY, check=True
    )
    return (REPOSITORY / "runs" / "latest").resolve()


def read(folder: Path) -> dict[str, Any]:
    """summary.json with what only comparison.json has: late fusion, and AUC's differences."""
    summary, comparison = (json.loads((folder / f"{name}.json").read_text()) for name in ("summary", "comparison"))
    return summary | comparison


def paired_over_seeds(predictions: list[pl.DataFrame]) -> dict[str, dict[str, list[float]]]:
    """SeLLa-Rec minus each arm, mean over seeds: [point, low, high] by arm and metric; whole users are resampled."""
    draws: dict[str, dict[str, list[np.ndarray]]] = {}
    for frame in predictions:
        arms = {arm: rows for (arm,), rows in frame.group_by("arm", maintain_order=True)}
        user, label = (arms["sella"][name].to_numpy() for name in ("user_id", "label"))
        scores = {arm: rows["score"].to_numpy() for arm, rows in arms.items()}
        # the same users and the same random seed: the same resamples for every seed of the models
        drawn = bootstrap(user, label, scores, RESAMPLES, seed=0).draws
        for arm in scores.keys() - {"sella"}:
            for metric in ("auc", "uauc"):
                difference = drawn["sella"][metric] - drawn[arm][metric]
                draws.setdefault(arm, {}).setdefault(metric, []).append(difference)
    return {
        arm: {metric: _interval(np.mean(values, axis=0)) for metric, values in metrics.items()}
        for arm, metrics in draws.items()
    }


def _interval(draws: np.ndarray) -> list[float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return [float(low), float(high)]


def arms_table(summaries: Mapping[int, Any]) -> list[str]:
    some = next(iter(summaries.values()))["arms"]["sella"]
    lines = [
        f"Test split: {some['all']['rows']:,} rows, {some['all']['users']} users with both classes, "
        f"{some['cold']['rows']:,} rows cold. Mean over seeds (standard deviation).",
        "",
        "| arm | AUC | UAUC | NDCG | MAP | warm UAUC | cold UAUC |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for arm, name in NAMES.items():
        cells = [_mean(summaries, arm, "all", metric) for metric in ("auc", "uauc", "ndcg", "map")]
        if arm == "late_fusion":
            cells += ["", ""]
        else:
            cells += [_mean(summaries, arm, part, "uauc") for part in ("warm", "cold")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _mean(summaries: Mapping[int, Any], arm: str, part: str, metric: str) -> str:
    values = [
        s["late_fusion"][metric] if arm == "late_fusion" else s["arms"][arm][part][metric] for s in summaries.values()
    ]
    return f"{np.mean(values):.4f} ({np.std(values):.4f})"


def paired_table(differences: Mapping[str, Any], summaries: Mapping[int, Any]) -> list[str]:
    lines = ["| SeLLa-Rec minus | AUC (95 %) | UAUC (95 %) |", "|---|---:|---:|"]
    for arm in RIVALS:
        cells = [_lead(differences, summaries, arm, metric) for metric in ("auc", "uauc")]
        lines.append(f"| {NAMES[arm]} | {' | '.join(cells)} |")
    return lines


def _lead(differences: Mapping[str, Any], summaries: Mapping[int, Any], arm: str, metric: str) -> str:
    """SeLLa-Rec minus an arm, mean over seeds, with its interval where there is one."""
    if arm == "late_fusion":
        return f"{np.mean([s[arm]['paired'][f'{metric}_diff'] for s in summaries.values()]):+.4f}"
    points = [s["paired"][f"sella-vs-{arm}"][f"{metric}_diff"] for s in summaries.values()]
    low, high = differences[arm][metric]
    return f"{np.mean(points):+.4f} ({low:+.4f} to {high:+.4f})"


def short_table(summaries: Mapping[int, Any], differences: Mapping[str, Any]) -> list[str]:
    """What fits on a page's first screen: the metrics' means, and SeLLa-Rec's lead in UAUC."""
    lines = [
        "| model | AUC | UAUC | NDCG | MAP | SeLLa-Rec's lead in UAUC (95 %) |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for arm, name in NAMES.items():
        cells = [_mean(summaries, arm, "all", metric).split()[0] for metric in ("auc", "uauc", "ndcg", "map")]
        lead = "" if arm == "sella" else _lead(differences, summaries, arm, "uauc")
        lines.append(f"| {name} | {' | '.join(cells)} | {lead} |")
    return lines


def answer(folder: Path) -> str:
    """What the model of a finished run recommends to a user, as the terminal shows it."""
    command = [sys.executable, "-m", "pipeline.cli.main", *ASKED, "--bundle", str(folder / "bundle")]
    printed = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout
    return f"```\n$ .venv/bin/sella {' '.join(ASKED)}\n{printed.rstrip()}\n```"


def footer(summaries: Mapping[int, Any], source: str) -> list[str]:
    steps = next(iter(summaries.values()))["steps"]
    seconds = {step: np.mean([s["steps"][step]["seconds"] for s in summaries.values()]) for step in steps}
    memory = max(s["peak_rss_mb"] for s in summaries.values())
    return [
        "Seconds a step: " + ", ".join(f"{step} {value:.0f}" for step, value in seconds.items()) + "; "
        f"together {sum(seconds.values()) / 60:.1f} minutes, peak memory of a step "
        f"{memory / 1024:.1f} GB.",
        "",
        f"`python -m benchmarks.quickstart`: {source}",
    ]


def keep(summaries: Mapping[int, Any], differences: Mapping[str, Any], source: str) -> None:
    kept = {seed: {k: v for k, v in s.items() if k not in ("mlflow", "model")} for seed, s in summaries.items()}
    RESULTS.parent.mkdir(exist_ok=True)
    content = {"source": source, "paired_over_seeds": differences, "runs": kept}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
