import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SLEEPER = (
    "import time; from sella_rec.runtime.supervision import exit_with_{whom};"
    "exit_with_{whom}(); print('up', flush=True); time.sleep(60)"
)


def sleeper(lock):
    environment = {**os.environ, "SELLA_LOCK": str(lock)}
    command = [sys.executable, "-c", SLEEPER.format(whom="runner")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_step_ends_when_the_runner_lets_go_of_its_lock(tmp_path):
    path = tmp_path / "lock"
    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        step = sleeper(path)
        assert step.stdout.readline() == "up\n"
        # it lives while the runner does
        with pytest.raises(subprocess.TimeoutExpired):
            step.wait(timeout=1.5)
    with step:
        assert step.wait(timeout=10) == -signal.SIGKILL


def test_a_step_that_begins_after_the_runner_has_gone_ends_at_once(tmp_path):
    with sleeper(tmp_path / "gone") as step:
        assert step.wait(timeout=10) == -signal.SIGKILL


def test_output_of_the_process_and_its_children_goes_to_the_log(tmp_path):
    log = tmp_path / "step.log"
    log.write_text("first attempt\n")
    code = (
        "import os, sys; from pathlib import Path; from sella_rec.runtime.supervision import redirect_output;"
        f"redirect_output(Path({str(log)!r})); print('printed'); print('complained', file=sys.stderr);"
        "os.system('echo child')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
    assert log.read_text() == "first attempt\nprinted\ncomplained\nchild\n"


def test_peak_memory_counts_what_was_held_and_given_back():
    code = (
        "from sella_rec.runtime.supervision import peak_rss_mb; before = peak_rss_mb();"
        "held = bytearray(b'x') * (200 * 2**20); del held; print(peak_rss_mb() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # interpreter and imports held more than a few MB before
    assert 190 < float(done.stdout) < 210


def test_a_process_does_not_outlive_the_one_that_started_it():
    parent = (
        "import subprocess, sys; command = [sys.executable, '-c', sys.argv[1]];"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE); child.stdout.readline();"
        "print(child.pid, flush=True); child.wait()"
    )
    command = [sys.executable, "-c", parent, SLEEPER.format(whom="parent")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        child = Path(f"/proc/{int(process.stdout.readline())}/stat")
        assert child.exists()
        process.kill()
    until = time.monotonic() + 10
    # a zombie has ended; who reaps it is the machine's affair
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < until
        time.sleep(0.1)
