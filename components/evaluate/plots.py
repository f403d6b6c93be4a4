"""The report's charts of test scores; each returns a matplotlib figure to be drawn within `svg.house_style()`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from components.evaluate.svg import COLORS, INK, MUTED, new_figure
from sella_rec.metrics.calibration import calibration_error, reliability
from sella_rec.metrics.ranking import per_user_metrics

NAMES = {
    "mf": "MF",
    "lightgcn": "LightGCN",
    "text_only": "Text-only LLM",
    "sella": "SeLLa-Rec",
    "late_fusion": "Late fusion",
}
_ROC_POINTS = 200
_AUC_BINS = np.linspace(0, 1, 21)


def forest_plot(paired: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Differences to SeLLa-Rec by arm, {arm: {uauc_diff, ci, auc_diff, auc_ci}}, with their intervals."""
    figure = new_figure(5.2, 0.55 + 0.55 * len(paired))
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=0.9)
    for row, (arm, values) in enumerate(paired.items()):
        for offset, filled, difference, interval in (
            (-0.16, True, values["uauc_diff"], values["ci"]),
            (0.16, False, values["auc_diff"], values["auc_ci"]),
        ):
            if interval is None or difference is None:
                continue
            axes.plot(interval, [row + offset] * 2, color=COLORS[arm], linewidth=1.6, solid_capstyle="butt")
            face = COLORS[arm] if filled else "none"
            marker = "o" if filled else "s"
            axes.plot(difference, row + offset, marker, color=COLORS[arm], markerfacecolor=face, markersize=5)
    axes.set_yticks(range(len(paired)), [f"vs {NAMES[arm]}" for arm in paired], color=INK)
    axes.set_ylim(len(paired) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Difference; right of zero, SeLLa-Rec is better")
    return figure


def roc(label: np.ndarray, logits: Mapping[str, np.ndarray]) -> Figure:
    """ROC curves of all arms over all rows; label [n], logits by arm [n]."""
    figure = new_figure(4.4, 4.0)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 4)))
    grid = np.linspace(0, 1, _ROC_POINTS)
    for arm, score in logits.items():
        false_positive, true_positive, _ = roc_curve(label, score)
        thin = len(false_positive) > _ROC_POINTS
        x, y = (grid, np.interp(grid, false_positive, true_positive)) if thin else (false_positive, true_positive)
        axes.plot(x, y, color=COLORS[arm], label=NAMES[arm], **_emphasis(arm))
    axes.set(xlabel="Dislikes ranked above the threshold", ylabel="Likes ranked above the threshold")
    axes.set(xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
    axes.legend(loc="lower right")
    return figure


def user_auc_histograms(user: np.ndarray, label: np.ndarray, logits: Mapping[str, np.ndarray]) -> Figure:
    """One histogram an arm of the users' own AUC, the mean (UAUC) marked; arrays [n]."""
    figure = new_figure(4.4, 4.0)
    panels = figure.subplots(len(logits), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (arm, score) in zip(panels, logits.items(), strict=True):
        own = per_user_metrics(user, label, score).auc
        counts, _ = np.histogram(own, _AUC_BINS)
        share = counts / max(1, len(own))
        axes.bar(_AUC_BINS[:-1], share, width=np.diff(_AUC_BINS) * 0.9, align="edge", color=COLORS[arm])
        if len(own):
            axes.axvline(own.mean(), color=INK, linewidth=1)
        axes.set_title(NAMES[arm], loc="left", fontsize=8.5, color=COLORS[arm], pad=2)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.locator_params(axis="y", nbins=2)
    panels[-1].set(xlabel="AUC within one user's list", xlim=(0, 1))
    figure.supylabel("Share of users", fontsize=8.5, color=MUTED)
    return figure


def slice_dots(arms: Mapping[str, Mapping[str, Any]]) -> Figure:
    """UAUC with its interval by slice and arm, {arm: {slice: {uauc, uauc_ci}}}."""
    figure = new_figure(4.4, 4.0)
    axes = figure.subplots()
    offsets = np.linspace(-0.27, 0.27, len(arms))
    for offset, (arm, parts) in zip(offsets, arms.items(), strict=True):
        for row, values in enumerate(parts.values()):
            if values["uauc"] is not None:
                axes.plot(values["uauc_ci"], [row + offset] * 2, color=COLORS[arm], linewidth=1.6)
                axes.plot(values["uauc"], row + offset, "o", color=COLORS[arm], markersize=5)
        axes.plot([], [], "o-", color=COLORS[arm], markersize=5, label=NAMES[arm])
    names = list(next(iter(arms.values())))
    axes.set_yticks(range(len(names)), [name.capitalize() for name in names], color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("UAUC")
    figure.legend(loc="outside upper center", ncols=len(arms), handlelength=1.4, columnspacing=1.2)
    return figure


def calibration(label: np.ndarray, probability: Mapping[str, np.ndarray]) -> Figure:
    """Reliability curves over bins of equally many rows; arrays [n]."""
    figure = new_figure(4.4, 4.0)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 4)))
    for arm, values in probability.items():
        predicted, observed, _ = reliability(label, values)
        error = calibration_error(label, values)
        text = f"{NAMES[arm]}, ECE {error:.3f}"
        axes.plot(predicted, observed, "o-", markersize=3, color=COLORS[arm], label=text, **_emphasis(arm))
    axes.set(xlabel="Predicted probability of a like", ylabel="Share that was liked")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(loc="upper left")
    return figure


def step_times(seconds: Mapping[str, float]) -> Figure:
    """Bars of the time per step."""
    figure = new_figure(4.4, 0.5 + 0.3 * len(seconds))
    axes = figure.subplots()
    bars = axes.barh(list(seconds), list(seconds.values()), color=COLORS["late_fusion"], height=0.62)
    axes.bar_label(bars, [duration(value) for value in seconds.values()], fontsize=8, color=INK, padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_xlabel("Seconds")
    return figure


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s` or `2 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _emphasis(arm: str) -> dict[str, Any]:
    return {"linewidth": 2.2, "zorder": 4} if arm == "sella" else {"linewidth": 1.3, "zorder": 3}
