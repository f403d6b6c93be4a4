"""Full disks, refusals and requests to end: a sentence, and what was there before is still there."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from components.prepare_data import step
from pipeline.cli.common import clean_errors
from pipeline.cli.main import app

runner = CliRunner()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(small_ratings: Path) -> list[str]:
    files = ["--interactions", str(small_ratings / "interactions.csv"), "--items", str(small_ratings / "items.csv")]
    return ["data", *files, "--output", "out", "--html", "page.html"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def full() -> None:
    raise pl.exceptions.ComputeError("parquet: underlying IO error: No space left on device (os error 28)")


def refused() -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "out")


def asked(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("happen", "code", "told"),
    [
        (full, 1, "out: cannot be written: the disk is full: free space there, or choose another place (--output)"),
        (refused, 1, "out: cannot be written: permission denied: let your user read and write there"),
        (asked(signal.SIGINT), 130, "Stopped. What was there before is unchanged."),
        (asked(signal.SIGTERM), 143, "Stopped. What was there before is unchanged."),
        (asked(signal.SIGHUP), 129, "Stopped. What was there before is unchanged."),
    ],
)
def test_a_sentence_and_what_was_there_before(
    elsewhere: Path,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    happen: Callable[[], None],
    code: int,
    told: str,
) -> None:
    assert runner.invoke(app, command).exit_code == 0
    before, handlers = contents(elsewhere), [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)]
    really = step.write_reference

    def interrupted(folder: Path, *given: pl.DataFrame) -> None:
        really(folder, *given)
        happen()

    monkeypatch.setattr(step, "write_reference", interrupted)
    ended = runner.invoke(app, command)
    assert (ended.exit_code, ended.stderr.count("\n")) == (code, 1)
    assert told in ended.stderr
    assert contents(elsewhere) == before, "the old folder, and nothing half written beside it"
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)] == handlers


def test_a_command_under_nohup_is_not_ended_by_its_signal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with clean_errors():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_any_command_tells_of_a_refusal_and_leaves_bugs_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), clean_errors():
        raise OSError(errno.EROFS, "Read-only file system", "mlflow.db")
    assert capsys.readouterr().err == "mlflow.db: the file system is read-only\n"
    for bug in (ValueError("a bug"), ConnectionResetError(errno.ECONNRESET, "reset")):
        with pytest.raises(type(bug)), clean_errors():
            raise bug


def test_the_report_as_json_has_the_figures_of_the_folder(elsewhere: Path, command: list[str]) -> None:
    shown = runner.invoke(app, [*command, "--json"])
    assert shown.exit_code == 0, shown.output
    files = [json.loads((elsewhere / "out" / name).read_text()) for name in ("report.json", "report_details.json")]
    assert json.loads(shown.stdout) == files[0] | files[1]
    assert (elsewhere / "page.html").read_bytes() == (elsewhere / "out" / "report.html").read_bytes()


def test_the_report_as_text(elsewhere: Path) -> None:
    rows = [
        f"{user},{item},{4 + (user + item) % 2},{1_000_000_000 + user * 86400 + item}"
        for user in range(20)
        for item in range(9)
    ]
    (elsewhere / "r.csv").write_text(
        "\n".join(["user_id,item_id,rating,timestamp", *rows, "1,77,5,1000000000", rows[0]])
    )
    (elsewhere / "i.csv").write_text(
        "item_id,title\n" + "".join(f"{item},Film [{item}]\n" for item in range(9)) + "10,\n"
    )
    given = ["data", "--interactions", "r.csv", "--items", "i.csv", "--set", "data.like_threshold=5"]
    shown = runner.invoke(app, given)
    assert shown.exit_code == 0, shown.output
    text = " ".join(shown.stdout.split())
    for said in (
        "180 interactions of 20 users with 9 of 9 items; 50.0% are likes",
        "182 interactions read, dropped: 1 0.5% of items that the items table lacks 1 0.5% older ones of the same user",
        "10 rows of items read, dropped: 1 10.0% without a title (data.reject_title) 9 kept",
        "titles: 10.0% of the items have none",
        "time: 2001-09-09 ",
        "4 91 ",
        "5 91 ",
        "Film [0]",
        "users with most rows: 0 (9), 1 (9), 2 (9), 3 (9), 4 (9)",
    ):
        assert said in text, said
