"""The data report as one self-contained HTML page: the same bytes from the same data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.html import render
from components.prepare_data.details import Details
from components.prepare_data.report import DROPPED, Report
from sella_rec.config import DataConfig
from sella_rec.data.dataset import SPLITS

PAGE = "report.html"
# With which the page begins, so that it is known as ours
BEGINS = "<!doctype html>\n<!-- sella-rec: data report -->\n"
_TEMPLATE = Path(__file__).with_name("report.html.j2")


def make_page(config: DataConfig, report: Report, details: Details) -> str:
    """The page of a report and its details."""
    body = render(
        _TEMPLATE,
        {"n": _number, "share": _share, "day": _day},
        report=report,
        details=details,
        config=config,
        splits=[{"name": name, **_of_split(report, name)} for name in SPLITS],
        rows_out=_flow(report, "rows", float(report["rows_read"])),
        items_out=_flow(report, "items", float(report["items_read"])),
        bars=_bars(details["timeline"]),
        widest=max((float(each["rows"]) for each in details["ratings"]), default=1.0),
    )
    return BEGINS + body


def _of_split(report: Report, name: str) -> Report:
    prefix = f"{name}_"
    return {key.removeprefix(prefix): value for key, value in report.items() if key.startswith(prefix)}


def _flow(report: Report, kind: str, read: float) -> list[dict[str, Any]]:
    """What each rule dropped of `kind`, rows or items."""
    rules = [(rule, *words) for rule, words in DROPPED.items() if rule.startswith(kind)]
    return [
        {"rule": rule, "words": words, "setting": setting, "count": report[rule], "share": float(report[rule]) / read}
        for rule, words, setting in rules
    ]


def _bars(timeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A stacked bar per bin of time: its place and heights in per cent of the picture."""
    highest = max(sum(each[name] for name in SPLITS) for each in timeline)
    width = 100 / len(timeline)
    bars = []
    for number, each in enumerate(timeline):
        bottom, parts = 0.0, []
        for name in SPLITS:
            height = 100 * each[name] / highest
            parts.append({"split": name, "y": 100 - bottom - height, "height": height})
            bottom += height
        rows = ", ".join(f"{name} {each[name]:,}" for name in SPLITS if each[name])
        bars.append({"x": number * width, "width": width * 0.86, "parts": parts, "told": f"{each['from']}: {rows}"})
    return bars


def _number(value: Any) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _share(value: float) -> str:
    return "<0.1%" if 0 < value < 0.001 else f"{value:.1%}"


def _day(value: str) -> str:
    return value[:10]
