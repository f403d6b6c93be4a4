"""A step's processes: where their output goes, and that none outlives the process that waits for it."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sella_rec.environment import lock_file

HEARTBEAT = "heartbeat"
# Seconds. Network file systems show a change after a minute or so.
HEARTBEAT_TIMEOUT_SECONDS = 300.0
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


@contextmanager
def raising_on_signals(numbers: Iterable[int], make: Callable[[int], BaseException]) -> Iterator[None]:
    """Let signals raise what `make` makes of their number; outside of the main thread nothing changes.

    A signal that is ignored stays so: nohup has a command ignore SIGHUP.
    """
    if threading.current_thread() is not threading.main_thread():
        # only the main thread may set handlers
        yield
        return

    def stop(number: int, _frame: object) -> None:
        raise make(number)

    wanted = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_with_runner() -> None:
    """End this process soon after the runner that locks the file `SELLA_LOCK` has ended, however it ended.

    A lock rather than the parent's id: between runner and step stands a shell that outlives the runner, and ids are
    reused. Without such a file nothing happens.
    """
    lock = lock_file()
    if lock:
        threading.Thread(target=_watch, args=(lock,), daemon=True).start()


def exit_with_parent() -> None:
    """End this process soon after its parent: a killed parent cannot end its children."""
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def exit_without_heartbeat(file: Path) -> None:
    """Send this process SIGTERM once a file has not been touched for five minutes; clocks are not compared."""
    threading.Thread(target=_watch_heartbeat, args=(file,), daemon=True).start()


def _watch_heartbeat(file: Path) -> None:
    beat, since = file.stat().st_mtime_ns, time.monotonic()
    while time.monotonic() - since < HEARTBEAT_TIMEOUT_SECONDS:
        time.sleep(_EVERY_SECONDS)
        now = file.stat().st_mtime_ns
        if now != beat:
            beat, since = now, time.monotonic()
    os.kill(os.getpid(), signal.SIGTERM)


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
    """The most memory this process, or one that it started and that has ended, has held so far, in MB (2^20 bytes)."""
    status = Path("/proc/self/status")
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    if status.exists():
        # getrusage's peak would be no less than that of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return round(max(int(line.split()[1]), children) / 2**10, 1)
    peak = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, children)
    # bytes on macOS, KB elsewhere
    return round(peak / 2 ** (20 if sys.platform == "darwin" else 10), 1)
