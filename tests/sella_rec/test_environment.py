"""What the environment says of where a step runs."""

from pathlib import Path

import pytest

from sella_rec import environment

VARIABLES = ["SELLA_CACHE", "SELLA_CHECKPOINTS", "SELLA_PROGRESS", "SELLA_LOGS", "SELLA_LOCK", "KFP_RUN_ID"]


def said() -> list[object]:
    return [
        environment.cache_folder(),
        environment.checkpoints_root(),
        environment.progress_file("tune-llm"),
        environment.log_file("tune-llm"),
        environment.lock_file(),
        environment.pipeline_run(),
    ]


def test_each_place_is_what_its_variable_names(monkeypatch: pytest.MonkeyPatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, f"/of/{name}")
    assert said() == [
        Path("/of/SELLA_CACHE"),
        Path("/of/SELLA_CHECKPOINTS"),
        Path("/of/SELLA_PROGRESS/tune-llm.json"),
        Path("/of/SELLA_LOGS/tune-llm.log"),
        Path("/of/SELLA_LOCK"),
        "/of/KFP_RUN_ID",
    ]


@pytest.mark.parametrize("given", [None, ""])
def test_without_a_variable_or_with_an_empty_one_only_the_cache_has_a_place(
    monkeypatch: pytest.MonkeyPatch, given: str | None
):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        if given is not None:
            monkeypatch.setenv(name, given)
    assert said() == [Path(".cache"), None, None, None, None, None]
