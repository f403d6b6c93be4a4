"""The papers' table in Markdown, from the rows that exist."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.paper.arms import ARMS, PUBLISHED
from benchmarks.paper.rows import Row, scored_folder
from benchmarks.paper.scores import read_logits
from sella_rec.data.dataset import Split
from sella_rec.metrics.bootstrap import bootstrap

RESAMPLES = 2000
METRICS = ("auc", "uauc")
Rows = Mapping[str, Mapping[int, Row]]
Draws = dict[str, dict[int, Mapping[str, np.ndarray]]]


def draw(rows: Rows, test: Split, stages: Path) -> Draws:
    """AUC and UAUC of every arm and seed on the same resamples of users, [RESAMPLES] each."""
    seeds = sorted({seed for of_arm in rows.values() for seed in of_arm})
    drawn: Draws = {arm: {} for arm in rows}
    for seed in seeds:
        scores = {
            arm: read_logits(scored_folder(of_arm[seed], stages)) for arm, of_arm in rows.items() if seed in of_arm
        }
        # the same random seed for every seed of the models: the same users are drawn
        for arm, metrics in bootstrap(test.user, test.label, scores, RESAMPLES, seed=0).draws.items():
            drawn[arm][seed] = metrics
    return drawn


def write_table(rows: Rows, draws: Draws, reference: str, slices: bool) -> str:
    """The parts of the table; `slices` adds users and items.

    The arm `reference` is compared with all; SeLLa-Rec above another collaborative model with what is above that one.
    """
    parts = [arms_table(rows, draws)]
    rivals = {reference: list(rows)} if reference in rows else {}
    for name in _in_order(rows):
        if ARMS[name].kind == "residual" and name != reference:
            rivals[name] = [other for other in rows if ARMS[other].model == ARMS[name].model]
    parts += [differences_table(rows, draws, name, others) for name, others in rivals.items() if len(others) > 1]
    if slices:
        parts += [slices_table(rows, of) for of in ("users", "items")]
    return "\n\n".join("\n".join(lines) for lines in parts)


def arms_table(rows: Rows, draws: Draws) -> list[str]:
    """Every arm that was run, what papers report, and which arms were not run."""
    lines = [
        "| arm | seeds | AUC | 95 % | UAUC | 95 % | valid AUC / UAUC | minutes | GB |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in _in_order(rows):
        of_arm = rows[name]
        cells = [" ".join(map(str, sorted(of_arm)))]
        for metric in METRICS:
            cells.append(_mean([row["test"][metric] for row in of_arm.values()]))
            cells.append(_interval(_over_seeds(draws[name], metric, of_arm)))
        cells.append(" / ".join(_number([row["valid"][metric] for row in of_arm.values()]) for metric in METRICS))
        steps = [list(row["costs"].values()) for row in of_arm.values()]
        cells.append(f"{np.mean([sum(step['seconds'] for step in costs) for costs in steps]) / 60:.1f}")
        cells.append(f"{max(step['peak_rss_mb'] for costs in steps for step in costs) / 1024:.1f}")
        lines.append(f"| {ARMS[name].label} | {' | '.join(cells)} |")
    lines += [f"| *{name}* | *{source}* | {auc} | | {uauc} | | | | |" for name, auc, uauc, source in PUBLISHED]
    missing = [arm.label for name, arm in ARMS.items() if name not in rows]
    return [*lines, "", f"Not run: {'; '.join(missing) or 'nothing'}."]


def _in_order(names: Collection[str]) -> list[str]:
    return [name for name in ARMS if name in names]


def differences_table(rows: Rows, draws: Draws, reference: str, rivals: Collection[str]) -> list[str]:
    """The reference minus each rival on the seeds both have, with p-values corrected over the rivals of a metric."""
    lines = [
        f"| {ARMS[reference].label}, minus | AUC (95 %) | p | UAUC (95 %) | p |",
        "|---|---:|---:|---:|---:|",
    ]
    others = [name for name in _in_order(rivals) if name != reference and set(rows[name]) & set(rows[reference])]
    cells: dict[str, list[str]] = {name: [] for name in others}
    for metric in METRICS:
        points, drawn = {}, {}
        for name in others:
            common = sorted(set(rows[name]) & set(rows[reference]))
            ours, theirs = ([of[seed]["test"][metric] for seed in common] for of in (rows[reference], rows[name]))
            points[name] = float(np.mean(ours) - np.mean(theirs))
            drawn[name] = _over_seeds(draws[reference], metric, common) - _over_seeds(draws[name], metric, common)
        p_values = holm({name: two_sided(drawn[name]) for name in others})
        for name in others:
            cells[name] += [f"{points[name]:+.4f} {_interval(drawn[name], '+')}", f"{p_values[name]:.3f}"]
    return lines + [f"| {ARMS[name].label} | {' | '.join(cells[name])} |" for name in others]


def two_sided(differences: np.ndarray) -> float:
    """Bootstrap p-value of a difference being zero: twice the smaller share of resamples on one side of it.

    One resample more is counted on either side, so that no p is zero (Davison & Hinkley 1997, section 4.2).
    """
    smaller = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (smaller + 1) / (len(differences) + 1)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for their number (Holm 1979): the m-th smallest of n times n - m + 1, never decreasing."""
    corrected, highest = {}, 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, p_values[name] * (len(p_values) - place)))
        corrected[name] = highest
    return corrected


def slices_table(rows: Rows, of: str) -> list[str]:
    """AUC / UAUC by how many train rows the users or items have, mean over seeds."""
    some = next(iter(next(iter(rows.values())).values()))["slices"]
    names = ["warm", "cold"] if of == "users" else []
    names += [name for name in some if name.startswith(of)]
    heads = [f"{name}<br>{some[name]['rows']:,} rows, {some[name]['users']} users" for name in names]
    lines = [f"| AUC / UAUC | {' | '.join(heads)} |", "|---|" + "---:|" * len(names)]
    for arm in _in_order(rows):
        slices = [row["slices"] for row in rows[arm].values()]
        cells = [" / ".join(_number([s[name][metric] for s in slices]) for metric in METRICS) for name in names]
        lines.append(f"| {ARMS[arm].label} | {' | '.join(cells)} |")
    return lines


def _over_seeds(
    drawn: Mapping[int, Mapping[str, np.ndarray]], metric: str, seeds: Sequence[int] | Mapping
) -> np.ndarray:
    return np.mean([drawn[seed][metric] for seed in seeds], axis=0)


def _interval(drawn: np.ndarray, sign: str = "") -> str:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return f"({low:{sign}.4f} to {high:{sign}.4f})"


def _mean(values: list[float]) -> str:
    """Mean, and with several seeds their standard deviation."""
    deviation = f" ({np.std(values, ddof=1):.4f})" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{deviation}"


def _number(values: list[float | None]) -> str:
    return "-" if None in values else f"{np.mean(values):.4f}"  # type: ignore[arg-type]
