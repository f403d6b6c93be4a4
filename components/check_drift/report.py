"""The report: one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from components.check_drift.comparison import Comparison, DriftMeasure
from components.check_drift.decision import NAMES, Champion, RetrainDecision
from components.check_drift.measures import DISTRIBUTIONS, OTHER_WORDS, SHARES
from components.html import render
from sella_rec.config import RetrainConfig
from sella_rec.data.training_reference import Reference, iso
from sella_rec.files import atomic_output

_TEMPLATE = Path(__file__).with_name("report.html.j2")
_SHOWN_WORDS = 12


class Bin(NamedTuple):
    """A bin of a distribution and its shares."""

    label: str
    before: float
    now: float


def write_report(
    path: Path,
    decision: RetrainDecision,
    champion: Champion | None,
    comparison: Comparison | None,
    reference: Reference | None,
    config: RetrainConfig,
) -> None:
    """Write the page; without a champion or its reference it says only that."""
    measures = comparison.measures if comparison else {}
    page = render(
        _TEMPLATE,
        {"share": _share, "iso": iso},
        decision=decision,
        champion=champion,
        comparison=comparison,
        figures=reference and reference.figures,
        config=config,
        names=NAMES,
        shares=SHARES,
        distributions={name: _bins(name, measures[name]) for name in DISTRIBUTIONS if name in measures},
    )
    with atomic_output(path) as file:
        file.write_text(page)


def _bins(name: str, measured: DriftMeasure) -> list[Bin]:
    """The bins to show; for words, those that changed most."""
    bins = [Bin(*values) for values in zip(measured.labels, *measured.bins, strict=True)]
    if name == "title_words":
        named = [one for one in bins if one.label != OTHER_WORDS]
        bins = sorted(named, key=lambda one: -abs(one.now - one.before))[:_SHOWN_WORDS]
    return bins


def _share(value: float) -> str:
    return f"{value:.1%}"
