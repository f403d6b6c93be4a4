import json

import pytest

from sella_rec.tracking import progress_file as progress
from sella_rec.tracking.progress_file import ProgressFile, read_progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(progress.time, "time", lambda: Clock.now)
    return Clock


def test_a_step_that_has_not_begun_says_nothing(tmp_path):
    assert read_progress(tmp_path / "tune-llm.json") == {}


def test_time_left_follows_the_pace_of_the_present_loop(tmp_path, clock):
    file = ProgressFile(tmp_path / "step.json")
    file.start()
    file.loop(0, 100, "training")
    clock.now += 10
    file.loop(20, 100, "training")
    assert read_progress(file.path)["left"] == pytest.approx(40)
    clock.now += 10
    # another loop has its own pace
    file.loop(5, 10, "scoring")
    assert read_progress(file.path)["left"] is None
    clock.now += 3
    file.loop(8, 10, "scoring")
    assert read_progress(file.path)["left"] == pytest.approx(2)


def test_a_resumed_loop_is_timed_from_where_it_went_on(tmp_path, clock):
    file = ProgressFile(tmp_path / "step.json")
    file.start()
    file.loop(90, 100, "training")
    clock.now += 5
    file.loop(95, 100, "training")
    assert read_progress(file.path)["left"] == pytest.approx(5)


def test_a_fast_loop_writes_seldom_but_its_end_always(tmp_path, clock):
    file = ProgressFile(tmp_path / "step.json")
    file.start()
    for done in range(1, 100):
        clock.now += 0.001
        file.loop(done, 100, "items")
    assert "done" not in read_progress(file.path)
    file.loop(100, 100, "items")
    assert read_progress(file.path)["done"] == 100


def test_the_end_keeps_when_it_began_and_adds_what_it_is_given(tmp_path, clock):
    file = ProgressFile(tmp_path / "step.json")
    file.start()
    clock.now += 7
    file.finish("done", result={"version": "3"})
    said = json.loads(file.path.read_text())
    assert said == {"state": "done", "started": 1000.0, "ended": 1007.0, "result": {"version": "3"}}
    assert [path.name for path in tmp_path.iterdir()] == ["step.json"]
