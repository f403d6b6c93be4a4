"""Matplotlib figures as SVG: alone for MLflow, or inline in the report, where they follow its light or dark colours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, RULE = "#1b1f24", "#667080", "#d5dae1"
COLORS = {
    "mf": "#2563a8",
    "lightgcn": "#2a8555",
    "text_only": "#8a56a8",
    "sella": "#c84f1e",
    "late_fusion": "#6b7481",
}
# Hex colours above become CSS variables of report.css inline, which has a second set for dark mode
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule"} | {c: f"--{arm}" for arm, c in COLORS.items()}

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be found, read aloud and coloured
    "svg.hashsalt": "sella-rec",  # ids do not change from run to run
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a title may hold dollar signs
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw and save figures inside: fonts, colours and grid of the report."""
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, which is 72 SVG units each."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def standalone(figure: Figure) -> str:
    """The SVG file, on white."""
    return _render(figure, facecolor="white")


def inline(figure: Figure, name: str) -> Markup:
    """The `<svg>` element alone: ids prefixed with `name`, colours as CSS variables, size left to the page."""
    text = _render(figure, facecolor="none")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    # matplotlib measured its own font; any other of the reader's is near enough
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    return Markup(text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1))


def _render(figure: Figure, facecolor: str) -> str:
    buffer = StringIO()
    figure.savefig(buffer, format="svg", facecolor=facecolor, metadata={"Date": None}, dpi=160)
    return buffer.getvalue()
