"""The report: one self-contained HTML page, and its charts as SVG files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from markupsafe import Markup
from matplotlib.figure import Figure

from components import html
from components.evaluate import plots
from components.evaluate.examples import Example
from components.evaluate.summary import ARMS, LATE_FUSION, METRICS, SLICES
from components.evaluate.svg import house_style, inline, standalone
from components.evaluate.training_plots import alignment_maps, curve_panels
from sella_rec.config import Config
from sella_rec.data.dataset import SPLITS, Split
from sella_rec.llm.scorer import probability

_TEMPLATE = Path(__file__).with_name("report.html.j2")
_SLICE_NAMES = {
    "all": "All rows",
    "warm": "Warm: user and item both seen in training",
    "cold": "Cold: user or item not seen in training",
}


@dataclass(frozen=True)
class Content:
    """All that the report shows.

    Attributes:
        data_report: prepare-data's flat record of counts.
        rows: the n test rows.
        logits: by arm and for late fusion, [n].
        summary: see `summarize`.
        curves: by step and name, `{"step": [..], "value": [..]}`.
        alignment: item_id, title, kind, when, x, y; None where there is none to show.
        seconds: time by step.
    """

    config: Config
    data_report: Mapping[str, Any]
    rows: Split
    logits: Mapping[str, np.ndarray]
    summary: Mapping[str, Any]
    curves: Mapping[str, Mapping[str, Any]]
    alignment: pl.DataFrame | None
    seconds: Mapping[str, float]
    examples: list[Example]


@dataclass(frozen=True)
class Drawings:
    """Figures: `charts` by name, training `curves` by title, `maps` of the alignment by when."""

    charts: dict[str, Figure]
    curves: dict[str, Figure] = field(default_factory=dict)
    maps: dict[str, Figure] = field(default_factory=dict)

    def named(self) -> dict[str, Figure]:
        """All of them under names that fit a file."""
        everything = self.charts | {f"alignment-{when}": figure for when, figure in self.maps.items()}
        everything |= {f"curve-{title}": figure for title, figure in self.curves.items()}
        return {_slug(name): figure for name, figure in everything.items()}


def write_report(content: Content, folder: Path) -> None:
    """Write `report.html` and `plots/`, its charts as SVG files, into an existing folder."""
    drawings = draw(content)
    (folder / "report.html").write_text(render(content, drawings), encoding="utf-8")
    save_plots(drawings, folder / "plots")


def draw(content: Content) -> Drawings:
    """Draw every chart that there is something to draw for."""
    rows, arms = content.rows, {arm: content.logits[arm] for arm in ARMS}
    probabilities = {arm: probability(score) for arm, score in arms.items()}
    with house_style():
        charts = {
            "paired": plots.forest_plot(paired_differences(content.summary)),
            "roc": plots.roc(rows.label, arms),
            "user-auc": plots.user_auc_histograms(rows.user, rows.label, arms),
            "slices": plots.slice_dots(content.summary["arms"]),
            "calibration": plots.calibration(rows.label, probabilities),
        }
        if content.seconds:
            charts["step-times"] = plots.step_times(content.seconds)
        maps = {} if content.alignment is None else alignment_maps(content.alignment)
        return Drawings(charts, curve_panels(content.curves), maps)


def save_plots(drawings: Drawings, folder: Path) -> None:
    """Write each chart as an SVG file into a new folder."""
    folder.mkdir()
    with house_style():
        for name, figure in drawings.named().items():
            (folder / f"{name}.svg").write_text(standalone(figure), encoding="utf-8")


def render(content: Content, drawings: Drawings) -> str:
    """The page; whatever comes from data is escaped."""
    filters = {"metric": _metric, "signed": _signed, "percent": _percent, "count": _count}
    with house_style():
        svg = {key: _inline_all(getattr(drawings, key), key) for key in ("charts", "curves", "maps")}
    return html.render(
        _TEMPLATE,
        {**filters, "duration": plots.duration, "verdict": verdict},
        arms=ARMS,
        names=plots.NAMES,
        slices=_SLICE_NAMES,
        metrics=METRICS,
        summary=content.summary,
        best=best_arms(content.summary["arms"]),
        paired=paired_differences(content.summary),
        svg=svg,
        seconds=content.seconds,
        examples=content.examples,
        config=content.config,
        config_yaml=yaml.safe_dump(content.config.model_dump(mode="json"), sort_keys=False),
        **_data_tables(content.data_report),
    )


def paired_differences(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """SeLLa-Rec minus each other arm, and minus late fusion, by arm."""
    differences = {arm: summary["paired"][f"sella-vs-{arm}"] for arm in ARMS if arm != "sella"}
    return differences | {LATE_FUSION: summary[LATE_FUSION]["paired"]}


def best_arms(arms: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    """(slice, metric, arm) of the best value of each column, ties included as they are shown."""
    best = set()
    for part in SLICES:
        for metric in METRICS:
            values = {arm: _metric(arms[arm][part][metric]) for arm in ARMS if arms[arm][part][metric] is not None}
            best |= {(part, metric, arm) for arm, value in values.items() if value == max(values.values())}
    return best


def verdict(interval: tuple[float, float] | None) -> str:
    """What the interval of a difference shows, in words."""
    if interval is None:
        return "unknown"
    return "better" if interval[0] > 0 else "worse" if interval[1] < 0 else "no clear difference"


def _data_tables(report: Mapping[str, Any]) -> dict[str, Any]:
    """The flat record as a table by split, and what is about the whole."""
    keys = [key.removeprefix("train_") for key in report if key.startswith("train_")]
    by_split = {key: [report[f"{split}_{key}"] for split in SPLITS] for key in keys}
    of_split = {f"{split}_{key}" for split in SPLITS for key in keys}
    return {"by_split": by_split, "splits": SPLITS, "whole": {k: v for k, v in report.items() if k not in of_split}}


def _inline_all(figures: Mapping[str, Figure], group: str) -> dict[str, Markup]:
    return {name: inline(figure, _slug(f"{group}-{name}")) for name, figure in figures.items()}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _metric(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}".replace("-", "−")


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _count(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
