"""The decision as a page, and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.html import render
from components.promote.step import Outcome

_TEMPLATE = Path(__file__).with_name("decision.html.j2")


def write_page(outcome: Outcome, path: str | Path) -> None:
    """One self-contained HTML page."""
    page = render(_TEMPLATE, {"number": _number, "signed": _signed}, outcome=outcome)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(page, encoding="utf-8")


def as_json(outcome: Outcome) -> dict[str, Any]:
    """`promoted`, `reason`, `champion` (its version now) and `checks`, each with its rule and measure."""
    return {"champion": outcome.champion, **asdict(outcome.decision)}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}" if isinstance(value, float) else f"{value:,}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}".replace("-", "−")
