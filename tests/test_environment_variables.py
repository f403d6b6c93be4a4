"""docs/environment_variables.md names every variable of ours and of our platforms that the project uses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sella_rec.object_store import OBJECT_STORE_VARIABLES
from sella_rec.tracking.runs import SERVER_VARIABLES

ROOT = Path(__file__).parents[1]
LISTED = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "docs" / "environment_variables.md").read_text()))
NAME = r"(?:SELLA|MLFLOW|KFP|KF|HF|AWS)_[A-Z0-9_]*[A-Z0-9]"
CODE = ("sella_rec", "components", "pipeline", "benchmarks")
SETTINGS = ("images", "manifests", ".ci", "Makefile")


def in_code() -> set[str]:
    """Names in quotes, as code asks for a variable, and those that the pipeline forms of MLflow's."""
    files = [file for folder in CODE for file in (ROOT / folder).rglob("*.py")]
    quoted = {name for file in files for name in re.findall(rf"""["']({NAME})["']""", file.read_text())}
    return quoted | {f"SELLA_{name}" for name in (*SERVER_VARIABLES, *OBJECT_STORE_VARIABLES)}


def in_settings() -> set[str]:
    roots = [ROOT / name for name in SETTINGS]
    files = [file for root in roots for file in ([root] if root.is_file() else root.rglob("*"))]
    texts = [file.read_text() for file in files if file.is_file() and file.suffix not in {".py", ".pyc"}]
    return {name for text in texts for name in re.findall(rf"\b{NAME}\b", text)}


@pytest.mark.parametrize("names", [in_code, in_settings])
def test_every_variable_is_documented(names: Callable[[], set[str]]) -> None:
    assert names() - LISTED == set(), "add them to docs/environment_variables.md"


def test_the_search_finds_what_steps_ask_the_environment_for() -> None:
    """The check above does not pass because nothing was found."""
    assert {"SELLA_CACHE", "SELLA_CHECKPOINTS", "SELLA_LOCK", "KFP_RUN_ID", "MLFLOW_RUN_ID"} <= in_code()
    assert {"SELLA_GIT_COMMIT", "HF_HOME", "MLFLOW_BACKEND_STORE_URI", "AWS_DEFAULT_REGION"} <= in_settings()


def test_no_variable_of_ours_is_documented_that_nothing_uses() -> None:
    ours = {name for name in LISTED if name.startswith("SELLA_")}
    assert ours - in_code() - in_settings() == set()
