"""README and docs: short, narrow, and every link, command and option in them exists."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from pipeline.cli.main import app
from sella_rec.serving.__main__ import parse

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [README, *DOCS]
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
FENCE = re.compile(r"^\s*```.*?^\s*```", re.MULTILINE | re.DOTALL)
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_the_readme_is_short_and_narrow() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 120] == []


def test_the_first_screen_has_picture_command_result_answer_and_page() -> None:
    screen = "\n".join(README.read_text().splitlines()[:42])
    parts = ["images/dag.svg", "Python 3.11", "make run", "| **SeLLa-Rec** |", "sella recommend 15", "images/demo.png"]
    assert [screen.find(part) for part in parts] == sorted(screen.find(part) for part in parts)
    assert all(part in screen for part in parts)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        repeated = sum(1 for known in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", known))
        found.add(f"{slug}-{repeated}" if repeated else slug)
    return found


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name(page)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(linked), f"{name(page)} links to {target}; {linked.name} has no such heading"


def shell_lines(page: Path) -> list[str]:
    """Lines of fenced blocks, continued ones joined, and code within sentences."""
    text = page.read_text().replace("\\\n", " ")
    fenced = [line for block in FENCE.findall(text) for line in block.splitlines()]
    return fenced + re.findall(r"`([^`]+)`", FENCE.sub("", text))


def sella_commands(page: Path) -> list[tuple[str, list[str]]]:
    """Each subcommand of `sella` with its options."""
    found = []
    for line in shell_lines(page):
        for command, rest in re.findall(r"(?:^|[$&|;=(] ?|\s)(?:\.venv/bin/)?sella ([a-z][\w-]*)([^#|;]*)", line):
            found.append((command, re.findall(r"(?<!\S)--?[a-z][\w-]*", rest)))
    return found


def options_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    if command == "serve":
        # it passes everything on to the server's own parser
        with pytest.raises(SystemExit):
            parse(["--help"], "sella serve")
        return set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    return {"--help", *(option for parameter in COMMANDS[command].params for option in parameter.opts)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_of_sella_and_its_options_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, options in sella_commands(page):
        assert command in COMMANDS, f"{name(page)}: there is no `sella {command}`"
        unknown = set(options) - options_of(command, capsys)
        assert not unknown, f"{name(page)}: `sella {command}` has no {', '.join(sorted(unknown))}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_target_of_make_and_every_module_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in shell_lines(page):
        for target in re.findall(r"(?:^|&& )make ([a-z][a-z-]*)", line):
            assert target in targets, f"{name(page)}: there is no `make {target}`"
        for module in re.findall(r"python -m ([\w.]+)", line):
            found = find_spec(module)
            assert found is not None, f"{name(page)}: there is no module {module}"


def test_the_readme_names_the_commands_that_a_newcomer_needs() -> None:
    """The checks above find what the README says: none of them passes because nothing was found."""
    commands = {command for command, _ in sella_commands(README)}
    assert {"recommend", "demo", "data", "run", "promote", "rollback", "submit", "schedule", "status"} <= commands
    assert ("schedule", ["--image", "--cron"]) in sella_commands(README)
    assert any(shlex.split(line, comments=True)[:2] == ["make", "run"] for line in shell_lines(README))
