"""What makes earlier results worthless, and whose."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest

import components
import sella_rec
from components import code_version as module
from components.configure.step import STEPS


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """The packages' sources, copied to where a test may change them."""
    for package in (components, sella_rec):
        original = Path(package.__path__[0])
        shutil.copytree(original, tmp_path / original.name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "_root", lambda package: tmp_path / package)
    return tmp_path


def versions() -> dict[str, str]:
    return {step: module.code_version(step) for step in (*STEPS, "configure", "recommend")}


def changed(before: dict[str, str]) -> set[str]:
    return {step for step, version in versions().items() if version != before[step]}


def touch(file: Path) -> None:
    file.write_text(file.read_text() + "\n")


def test_the_installed_source_is_what_counts(copies):
    copied = module.code_version("fuse")
    importlib.reload(module)
    assert module.code_version("fuse") == copied
    assert "components.code_version" in sys.modules


@pytest.mark.parametrize(
    ("file", "steps"),
    [
        ("sella_rec/serving/gateway.py", set()),
        ("components/fuse/step.py", {"fuse"}),
        ("components/evaluate/report.html.j2", {"evaluate"}),
        ("components/check_drift/report.html.j2", {"check-drift"}),
        ("components/html.py", {*STEPS, "configure", "recommend"}),
        ("sella_rec/llm/prompt.py", {*STEPS, "configure", "recommend"}),
    ],
)
def test_a_change_counts_for_the_steps_that_run_it(copies, file, steps):
    before = versions()
    touch(copies / file)
    assert changed(before) == steps


def test_of_all_steps_together_it_follows_each(copies):
    before = module.code_version()
    touch(copies / "sella_rec" / "serving" / "gateway.py")
    (copies / "components" / "fuse" / "note.txt").write_text("not code")
    assert module.code_version() == before
    touch(copies / "components" / "fuse" / "step.py")
    assert module.code_version() != before
