"""The small JSON file through which a step in its own process reports its progress to the local runner."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

_EVERY_SECONDS = 0.5


class ProgressFile:
    """State of one step: `running`, `done` or `failed`, and the progress of its current loop.

    Written atomically, and while a loop runs at most every half second, so a step may report as often as it likes.
    """

    def __init__(self, path: Path):
        self.path = path
        self._state: dict[str, Any] = {}
        self._note: str | None = None
        self._loop_started = 0.0
        self._loop_first = 0.0
        self._written = 0.0

    def start(self, **state: Any) -> None:
        """The step begins (again)."""
        self._state = {"state": "running", "started": time.time(), **state}
        self._write()

    def loop(self, done: float, total: float, note: str) -> None:
        """Report the progress of the loop named `note`; the time left is estimated from its pace so far."""
        now = time.time()
        if note != self._note or done < self._loop_first:
            self._note, self._loop_started, self._loop_first = note, now, done
        gained = done - self._loop_first
        left = (now - self._loop_started) / gained * (total - done) if gained > 0 else None
        self._state |= {"done": done, "total": total, "note": note, "left": left}
        if now - self._written >= _EVERY_SECONDS or done >= total:
            self._write()

    def finish(self, state: str, **more: Any) -> None:
        """The step ended as `done` or `failed`."""
        self._state |= {"state": state, "ended": time.time(), **more}
        self._write()

    def _write(self) -> None:
        self._written = time.time()
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._state))
        temporary.replace(self.path)


def read_progress(path: Path) -> dict[str, Any]:
    """What a step last wrote; empty if it has not begun."""
    try:
        state = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return dict(state)
