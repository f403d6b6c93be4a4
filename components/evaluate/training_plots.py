"""The report's charts of how training went: loss curves, and the map of item vectors before and after alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.evaluate.plots import NAMES
from components.evaluate.svg import COLORS, INK, new_figure

Curve = Mapping[str, Sequence[float]]
KINDS = {"projected": COLORS["sella"], "semantics": COLORS["text_only"]}
_NOISY = 60
_LABELLED = 6
_TITLE_LENGTH = 26


def curve_panels(curves: Mapping[str, Mapping[str, Curve]]) -> dict[str, Figure]:
    """One small chart for each quantity of each step, `{"tune-llm: train loss": figure}`.

    Args:
        curves: by step and name, `{"step": [..], "value": [..]}`; the names of an arm (`mf_train_loss`) share a chart.
    """
    panels: dict[str, dict[str, Curve]] = {}
    for step, of_step in curves.items():
        for name, curve in of_step.items():
            arm = next((arm for arm in ("mf", "lightgcn") if name.startswith(f"{arm}_")), "")
            quantity = name.removeprefix(f"{arm}_").replace("_", " ").replace("auc", "AUC")
            panels.setdefault(f"{step}: {quantity}", {})[arm] = curve
    return {title: _curve_panel(of_panel) for title, of_panel in panels.items()}


def _curve_panel(curves: Mapping[str, Curve]) -> Figure:
    figure = new_figure(3.1, 2.1)
    axes = figure.subplots()
    for arm, curve in curves.items():
        step, value = np.asarray(curve["step"], dtype=float), np.asarray(curve["value"], dtype=float)
        color = COLORS[arm] if arm else COLORS["sella"]
        noisy = len(value) > _NOISY
        axes.plot(step, value, color=color, linewidth=0.5 if noisy else 1.5, alpha=0.4 if noisy else 1)
        if noisy:
            window = len(value) // 15
            smooth = np.convolve(value, np.full(window, 1 / window), mode="valid")
            axes.plot(step[window // 2 : window // 2 + len(smooth)], smooth, color=color)
        if arm:
            axes.plot([], [], color=color, label=NAMES[arm])
    if any(curves):
        axes.legend(loc="best")
    axes.margins(x=0.02)
    axes.locator_params(nbins=5)
    return figure


def alignment_maps(points: pl.DataFrame) -> dict[str, Figure]:
    """The map of items before and after alignment, the pairs of a few titles joined.

    Args:
        points: item_id, title, kind (`projected` or `semantics`), when (`before` or `after`), x, y.
    """
    titles = _spread_out(points.filter((pl.col("when") == "after") & (pl.col("kind") == "semantics")))
    maps = {}
    for when in ("before", "after"):
        maps[when] = new_figure(4.4, 4.2)
        axes = maps[when].subplots()
        # one scale for both, so that distances compare
        for axis, column in (("x", points["x"]), ("y", points["y"])):
            low, high = column.to_numpy().min(), column.to_numpy().max()
            margin = 0.06 * (high - low)
            axes.set(**{f"{axis}lim": (low - margin, high + margin), f"{axis}ticks": []})
        axes.spines[:].set_visible(True)
        _draw_map(axes, points.filter(pl.col("when") == when), titles)
    return maps


def _draw_map(axes: Axes, points: pl.DataFrame, labelled: list[object]) -> None:
    for kind, color in KINDS.items():
        of_kind = points.filter(pl.col("kind") == kind)
        # thousands of dots are an image; what is to be read stays text
        axes.scatter(of_kind["x"], of_kind["y"], s=7, color=color, alpha=0.6, linewidths=0, rasterized=True, label=kind)
    for item in labelled:
        _join_pair(axes, points.filter(pl.col("item_id") == item))


def _join_pair(axes: Axes, pair: pl.DataFrame) -> None:
    axes.plot(pair["x"], pair["y"], color=INK, linewidth=0.9, zorder=3)
    for kind, color in KINDS.items():
        point = pair.filter(pl.col("kind") == kind)
        axes.plot(
            point["x"], point["y"], "o", color=color, markersize=5, markeredgecolor=INK, markeredgewidth=0.7, zorder=4
        )
    text = pair.filter(pl.col("kind") == "semantics").row(0, named=True)
    title = text["title"] if len(text["title"]) <= _TITLE_LENGTH else f"{text['title'][: _TITLE_LENGTH - 1]}…"
    right = text["x"] > np.mean(axes.get_xlim())
    axes.annotate(
        title,
        (text["x"], text["y"]),
        xytext=(-6 if right else 6, 5),
        textcoords="offset points",
        ha="right" if right else "left",
        fontsize=7.5,
        color=INK,
        zorder=5,
    )


def _spread_out(points: pl.DataFrame) -> list[object]:
    """Items far from each other on the map, so that their titles do not overlap (farthest-point sampling)."""
    places = points.select("x", "y").to_numpy()
    chosen = [int(np.argmax(np.linalg.norm(places - places.mean(axis=0), axis=1)))]
    while len(chosen) < min(_LABELLED, len(places)):
        gaps = np.linalg.norm(places[:, None] - places[chosen], axis=2).min(axis=1)
        chosen.append(int(np.argmax(gaps)))
    return [points["item_id"][i] for i in chosen]
