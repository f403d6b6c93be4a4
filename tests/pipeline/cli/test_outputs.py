"""Whatever option names a place to write to: what lies there and is not ours is untouched."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
from typer.models import OptionInfo
from typer.testing import CliRunner

from benchmarks import tune_llm_arms
from benchmarks.gpu import __main__ as gpu
from benchmarks.paper import run as paper
from pipeline.cli.main import app
from pipeline.local.run_folder import RunError, last_run, make_runs_folder, new_run

REPOSITORY = Path(__file__).parents[3]
READ = {"--config", "--interactions", "--items", "--source", "--bundle", "--pairs"}
# Each option that is written to, and the rest of a command that would write there
WRITTEN = {
    ("compile", "--output"): [],
    ("data", "--output"): [],
    ("data", "--html"): [],
    ("score", "--output"): ["--user", "7", "--item", "1", "--bundle", "."],
    ("recommend", "--output"): ["--all", "--bundle", "."],
}
BENCHMARKS_READ = {"window", "--data"}
# `work` gets folders of its own, named by what made them, and hands `work/out` to `sella data --output`
BENCHMARKS_WRITTEN = {
    ("paper/run", "--out"),
    ("tune_llm_arms", "--out"),
    ("gpu/__main__", "--out"),
    ("prepare_data", "work"),
}
runner = CliRunner()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def places() -> Iterator[tuple[str, str]]:
    """Options that take a path, by their type, by what help calls their value, or by their name."""
    for command in app.registered_commands:
        assert command.callback is not None
        for name, hint in get_type_hints(command.callback, include_extras=True).items():
            option = next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, OptionInfo)), None)
            if option is not None:
                is_path = "Path" in str(hint.__origin__) or option.metavar in {"DIR", "FILE", "PATH", "URI"}
                if is_path or "out" in name:
                    shown = (command.name or command.callback.__name__).rstrip("_")
                    yield shown, (option.param_decls or (f"--{name}",))[0]


def test_every_option_that_takes_a_path_is_in_a_table() -> None:
    found = set(places())
    assert {"--config", "--bundle", "--pairs", "--output"} <= {option for _, option in found}
    assert {place for place in found if place[1] not in READ} == set(WRITTEN)


def test_every_path_that_a_benchmark_takes_is_in_a_table() -> None:
    found = set()
    for file in (REPOSITORY / "benchmarks").rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument":
                kinds = {getattr(keyword.value, "id", "") for keyword in call.keywords if keyword.arg == "type"}
                name = call.args[0]
                assert isinstance(name, ast.Constant)
                if "Path" in kinds or "out" in str(name.value):
                    at = file.relative_to(REPOSITORY / "benchmarks").with_suffix("")
                    found.add((str(at), str(name.value)))
    assert {place for place in found if place[1] not in BENCHMARKS_READ} == BENCHMARKS_WRITTEN


def given(ratings: Path) -> list[str]:
    return ["--interactions", str(ratings / "interactions.csv"), "--items", str(ratings / "items.csv")]


def foreign_folder(place: Path) -> None:
    (place / "photos").mkdir(parents=True)
    for name in ("thesis.tex", "pipeline.yaml", "recommend.yaml", "report.json", "_manifest.json", "photos/1.jpg"):
        (place / name).write_text(f"my own {name}")


def foreign_file(place: Path) -> None:
    place.write_text("my own letter")


@pytest.mark.parametrize(("command", "option"), WRITTEN)
@pytest.mark.parametrize("lie_there", [foreign_folder, foreign_file])
@pytest.mark.parametrize("linked", [False, True], ids=["", "linked"])
def test_what_is_foreign_is_untouched(elsewhere: Path, command: str, option: str, lie_there, linked: bool) -> None:
    place = elsewhere / "place"
    lie_there(elsewhere / "real" if linked else place)
    if linked:
        place.symlink_to("real")
    before = tree(elsewhere)
    told = runner.invoke(app, [command, *WRITTEN[command, option], option, "place"])
    assert told.exit_code == 1, told.output
    assert "place" in told.stderr
    assert any(word in told.stderr for word in ("kept", "is a folder", "is a file")), told.stderr
    assert told.stderr.count("\n") == 1, "one message, and no traceback"
    assert tree(elsewhere) == before


@pytest.mark.parametrize("main", [paper.main, tune_llm_arms.main, gpu.main], ids=["paper", "tune_llm_arms", "gpu"])
def test_a_benchmark_leaves_a_foreign_folder_alone(
    elsewhere: Path, main: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    foreign_folder(elsewhere / "place")
    before = tree(elsewhere)
    with pytest.raises(SystemExit):
        main(["--out", "place"])
    assert "place: holds what this command did not write: _manifest.json, photos/," in capsys.readouterr().err
    assert tree(elsewhere) == before


def test_data_replaces_what_it_wrote_and_what_it_wrote_before_it_signed(elsewhere: Path, small_ratings: Path) -> None:
    command = ["data", *given(small_ratings), "--output", "out"]
    for _ in range(2):
        assert runner.invoke(app, command).exit_code == 0
    for later in (".sella-rec", "report.html", "report_details.json"):
        (elsewhere / "out" / later).unlink()
    assert runner.invoke(app, command).exit_code == 0
    assert (elsewhere / "out" / ".sella-rec").is_file()


def test_compile_and_html_replace_what_they_wrote(elsewhere: Path, small_ratings: Path) -> None:
    command = ["data", *given(small_ratings), "--html", "page.html"]
    for _ in range(2):
        assert runner.invoke(app, command).exit_code == 0
        assert runner.invoke(app, ["compile"]).exit_code == 0
    assert {path.name for path in elsewhere.iterdir()} == {"page.html", "pipeline.yaml", "recommend.yaml"}


@pytest.mark.parametrize("name", ["runs", "runs/latest"])
def test_a_run_does_not_start_over_what_is_not_its_own(elsewhere: Path, name: str) -> None:
    for foreign in (foreign_file, *([foreign_folder] if name == "runs/latest" else [])):
        place = elsewhere / foreign.__name__ / name
        place.parent.mkdir(parents=True)
        foreign(place)
        before = tree(elsewhere)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(elsewhere / foreign.__name__)
            with pytest.raises(RunError, match=rf"{name} is no (folder|link to a run), .*mv {name} {name}-kept"):
                make_runs_folder()
        assert tree(elsewhere) == before


def test_other_folders_in_runs_are_not_taken_for_runs(elsewhere: Path) -> None:
    foreign_folder(elsewhere / "runs" / "paper")
    (elsewhere / "runs" / "paper" / "request.json").write_text("{}")
    make_runs_folder()
    assert last_run() is None
    run = new_run()
    run.request.write_text("{}")
    found = last_run()
    assert found is not None
    assert found.path == run.path
