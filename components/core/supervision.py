"""A step's process under `sella run`: where its output goes, and that it does not outlive the runner."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

_EVERY_SECONDS = 0.5


def redirect_output(path: Path) -> None:
    """Append everything this process and its children print from now on to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def die_with_the_runner() -> None:
    """End this process soon after the runner that holds a lock on the file `SELLA_LOCK` is gone, however it ended.

    A lock rather than the parent's id: between runner and step stands a shell that outlives the runner, and ids are
    reused. Without `SELLA_LOCK` nothing happens.
    """
    lock = os.environ.get("SELLA_LOCK")
    if lock:
        threading.Thread(target=_watch, args=(Path(lock),), daemon=True).start()


def _watch(lock: Path) -> None:
    try:
        file = lock.open("rb")
    except FileNotFoundError:
        # the runner takes the file with it when it ends
        os.kill(os.getpid(), signal.SIGKILL)
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_EVERY_SECONDS)
                continue
            os.kill(os.getpid(), signal.SIGKILL)


def peak_rss_mb() -> float:
    """The most memory this process has held so far, in MB (2^20 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage's peak would be no less than that of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return round(int(line.split()[1]) / 2**10, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # bytes on macOS, KB elsewhere
    return round(peak / 2 ** (20 if sys.platform == "darwin" else 10), 1)
