from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.local.failure import explain_failure
from pipeline.local.progress import describe, duration, progress_table, show_progress, states
from pipeline.local.run_folder import RunFolder
from pipeline.steps import STEPS


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs" / "20260101-000000-abcd")
    folder.progress.mkdir(parents=True)
    folder.logs.mkdir()
    return folder


def say(run: RunFolder, step: str, **state: object) -> None:
    (run.progress / f"{step}.json").write_text(json.dumps(state))


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (75, "1:15"), (3600, "1:00:00"), (7325.6, "2:02:06")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_silent_step_is_cached_once_one_that_builds_on_it_has_begun(run):
    # kfp may run distill-items before train-collab, which is then still waiting
    say(run, "distill-items", state="running", started=0)
    found = {step: state["state"] for step, state in states(run).items()}
    assert found["prepare-data"] == found["tune-llm"] == "cached"
    assert found["train-collab"] == found["fuse"] == "waiting"


def test_what_check_drift_does_not_let_pass_is_skipped_and_not_told(run, capsys):
    say(run, "check-drift", state="done", started=0.0, ended=2.0, result={"retrain": False})
    found = {step: state["state"] for step, state in states(run).items()}
    assert found["find-champion"] == found["prepare-data"] == "cached"
    assert {found[step] for step in STEPS[STEPS.index("check-drift") + 1 :]} == {"skipped"}
    with show_progress(run, Console(width=100)) as show:
        show()
    assert "skipped" not in capsys.readouterr().out
    console = Console(width=120, record=True)
    console.print(progress_table(states(run), now=45.0))
    assert "skipped" in console.export_text()


def test_a_running_step_is_told_with_its_loop_and_the_time_left():
    state = {"state": "running", "started": 100.0, "done": 5, "total": 20, "note": "training", "left": 90.0}
    assert describe(state, now=130.0) == "running for 0:30, training 5/20, 1:30 left"


def test_lines_where_there_is_no_terminal(run, capsys):
    with show_progress(run, Console(width=100)) as show:
        show()
        say(run, "configure", state="done", started=0.0, ended=2.0)
        say(run, "prepare-data", state="running", started=time.time())
        show()
        show()
        say(run, "prepare-data", state="done", started=0.0, ended=61.0)
        show()
    lines = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["configure: done after 0:02", "prepare-data: running", "prepare-data: done after 1:01"]


def test_the_live_table_has_a_row_per_step(run):
    say(run, "tune-llm", state="running", started=0.0, done=30, total=120, note="training", left=75.0)
    console = Console(width=120, force_terminal=False, record=True)
    console.print(progress_table(states(run), now=45.0))
    row = next(line for line in console.export_text().splitlines() if line.startswith("tune-llm"))
    assert all(text in row for text in ("running", "training 30/120", "0:45", "1:15"))


def test_a_failed_step_is_explained_by_its_traceback_and_log(run):
    say(run, "tune-llm", state="failed", error="Traceback\nValueError: no such thing\n")
    told = explain_failure(run)
    assert "Step tune-llm failed" in told
    assert "ValueError: no such thing" in told
    assert str(run.log_of("tune-llm")) in told
    assert "--resume" in told


def test_a_killed_step_is_explained_by_the_end_of_its_log(run):
    say(run, "fuse", state="running", started=0.0)
    run.log_of("fuse").write_text("".join(f"line {n}\n" for n in range(50)))
    told = explain_failure(run)
    assert "Step fuse was killed" in told
    assert "line 49" in told
    assert "line 5\n" not in told


def test_a_failure_outside_the_steps_shows_the_runners_log(run):
    run.pipeline_log.write_text("No module named kfp\n")
    told = explain_failure(run)
    assert "outside its steps" in told
    assert "No module named kfp" in told
