"""Shows the progress of a run: a live table in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.local.run_folder import RunFolder
from pipeline.steps import BUILDS_ON, STEPS
from sella_rec.tracking.progress_file import read_progress

_LINE_SECONDS = 15.0
_STYLES = {"waiting": "dim", "skipped": "dim", "cached": "cyan", "running": "yellow", "done": "green", "failed": "red"}

States = dict[str, dict[str, Any]]


def states(run: RunFolder) -> States:
    """What each step last reported.

    A step without a report is `cached` if one that builds on it has begun, `skipped` if check-drift has found nothing
    to do, else `waiting`.
    """
    said = {step: read_progress(run.progress / f"{step}.json") for step in STEPS}
    known: set[str] = set()
    for step in reversed(STEPS):
        if said[step] or step in known:
            known.update(BUILDS_ON[step])
    nothing_to_do = said["check-drift"].get("result", {}).get("retrain") is False
    silent = "skipped" if nothing_to_do else "waiting"
    return {step: said[step] or {"state": "cached" if step in known else silent} for step in STEPS}


@contextmanager
def show_progress(run: RunFolder, console: Console) -> Iterator[Callable[[], None]]:
    """Yield a function that updates what is shown; call it often."""
    if not console.is_terminal:
        lines = _Lines(console)
        yield lambda: lines.show(states(run))
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda: live.update(progress_table(states(run), time.time()), refresh=True)


def progress_table(now_states: States, now: float) -> Table:
    """One row per step: state, progress of its loop, time taken, time left."""
    table = Table(box=None, pad_edge=False)
    for heading in ("step", "", "progress", "", "time", "left"):
        table.add_column(heading, justify="right" if heading in ("time", "left") else "left", min_width=5)
    for step, state in now_states.items():
        running = state["state"] == "running"
        known = running and state.get("total")
        bar = ProgressBar(total=state["total"], completed=state["done"], width=24) if known else ""
        note = f"{state['note']} {state['done']:g}/{state['total']:g}" if known else ""
        left = duration(state["left"]) if known and state.get("left") is not None else ""
        mark = Text(state["state"], _STYLES[state["state"]])
        table.add_row(step, mark, bar, note, _taken(state, now), left)
    return table


class _Lines:
    """For logs: a line when a step begins and ends, and every `_LINE_SECONDS` how far it is."""

    def __init__(self, console: Console):
        self._console = console
        self._shown: dict[str, str] = {}
        self._last_line = time.monotonic()

    def show(self, now_states: States) -> None:
        for step, state in now_states.items():
            name = state["state"]
            if name not in ("waiting", "skipped") and self._shown.get(step) != name:
                # a short step may have ended before it was seen running
                self._shown[step] = name
                taken = _taken(state, time.time()) if name in ("done", "failed") else ""
                self._print(f"{step}: {name} {f'after {taken}' if taken else ''}".rstrip())
            elif name == "running" and time.monotonic() - self._last_line >= _LINE_SECONDS:
                self._print(f"{step}: {describe(state, time.time())}")

    def _print(self, line: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(f"{time.strftime('%H:%M:%S')} {line}", highlight=False)


def describe(state: dict[str, Any], now: float) -> str:
    """A running step in words."""
    words = [f"running for {_taken(state, now)}"]
    if state.get("total"):
        words.append(f"{state['note']} {state['done']:g}/{state['total']:g}")
        if state.get("left") is not None:
            words.append(f"{duration(state['left'])} left")
    return ", ".join(words)


def duration(seconds: float) -> str:
    """`75` as `1:15`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _taken(state: dict[str, Any], now: float) -> str:
    if "started" not in state:
        return ""
    return duration(state.get("ended", now) - state["started"])
