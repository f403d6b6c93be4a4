"""Compare-and-set of the champion: by two processes at once, past a kill, a late writer, hands in the registry."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from sella_rec.tracking import promotions as module
from sella_rec.tracking.promotions import find_champion, promotions, replace_champion
from sella_rec.tracking.registry import CHAMPION, PREVIOUS, ModelVersion, find

ROUNDS = 15
# One request a line: base and to. They come to both processes at the same time.
_COMPETITOR = """
import sys
from mlflow import MlflowClient
from sella_rec.tracking.promotions import replace_champion
client, name = MlflowClient(sys.argv[1]), sys.argv[2]
client.get_registered_model(name)
print("ready", flush=True)
for line in sys.stdin:
    base, to = line.rstrip("\\n").split(",")
    print(replace_champion(client, name, base, to, "better"), flush=True)
"""


@pytest.fixture(scope="module")
def uri(fresh_store: Callable[[], str]) -> str:
    return fresh_store()


@pytest.fixture
def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


@pytest.fixture
def name(client: Any, request: pytest.FixtureRequest) -> str:
    """A model of this test's own with versions 1, 2 and 3, none of them champion."""
    name = request.node.name
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, source="s3://models/any")
    return name


@pytest.fixture
def competitors(uri: str, name: str) -> Iterator[list[subprocess.Popen[str]]]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", _COMPETITOR, uri, name]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    yield processes
    for process in processes:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def aliases(client: Any, name: str) -> tuple[str | None, str | None]:
    """Numbers of champion and previous."""
    found = client.get_registered_model(name).aliases
    return tuple(str(found[alias]) if alias in found else None for alias in (CHAMPION, PREVIOUS))


def test_of_two_processes_at_once_exactly_one_promotes(client, name, competitors):
    base = ""
    for _ in range(ROUNDS):
        rivals = [number for number in "123" if number != base][:2]
        for process, to in zip(competitors, rivals, strict=True):
            process.stdin.write(f"{base},{to}\n")
            process.stdin.flush()
        won = [process.stdout.readline() == "True\n" for process in competitors]
        assert sum(won) == 1
        winner = rivals[won.index(True)]
        assert aliases(client, name) == (winner, base or None)
        base = winner
    history = promotions(client, name)
    assert len(history) == ROUNDS
    assert all(later.base == earlier.to for earlier, later in pairwise(history))


def test_stale_knowledge_promotes_nothing(client, name):
    assert replace_champion(client, name, "", "1", "first")
    assert replace_champion(client, name, "1", "2", "better")
    assert not replace_champion(client, name, "1", "3", "better than 1, which nobody uses any more")
    assert not replace_champion(client, name, "", "3", "first")
    assert aliases(client, name) == ("2", "1")
    # tried again by the one that was granted
    assert replace_champion(client, name, "1", "2", "better")
    assert len(promotions(client, name)) == 2


def test_a_promotion_whose_process_was_killed_is_completed_by_the_next_to_look(client, name, monkeypatch):
    assert replace_champion(client, name, "", "1", "first")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_publish", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            replace_champion(client, name, "1", "2", "better")
    assert aliases(client, name) == ("1", None)
    assert not replace_champion(client, name, "1", "3", "better than 1")
    assert aliases(client, name) == ("2", "1")
    assert find_champion(client, name) == ModelVersion(name, "2", "")


def test_a_late_writer_repairs_what_it_set_back(client, name):
    for base, to in (("", "1"), ("1", "2"), ("2", "3")):
        assert replace_champion(client, name, base, to, "better")
    module._publish(client, name, promotions(client, name)[1])
    assert aliases(client, name) == ("3", "2")


def test_a_repeated_request_is_granted_once_and_known_as_ones_own(client, name, monkeypatch):
    """As when the answer is lost and the HTTP client asks again."""
    create = client.create_model_version

    def twice(*arguments: Any, **named: Any) -> Any:
        create(*arguments, **named)
        return create(*arguments, **named)

    monkeypatch.setattr(client, "create_model_version", twice)
    assert replace_champion(client, name, "", "1", "first")
    assert [(p.base, p.to) for p in promotions(client, name)] == [("", "1")]


def test_an_alias_moved_by_hand_is_what_counts(client, name):
    assert replace_champion(client, name, "", "1", "first")
    client.set_registered_model_alias(name, CHAMPION, "3")
    assert not replace_champion(client, name, "1", "2", "better than 1")
    assert aliases(client, name) == ("3", "1")
    assert replace_champion(client, name, "3", "2", "better than 3")
    client.delete_registered_model_alias(name, CHAMPION)
    assert find_champion(client, name) is None
    assert aliases(client, name) == (None, "2")
    assert replace_champion(client, name, "", "1", "first again")


def test_a_champion_that_was_deleted_is_none(client, name):
    assert replace_champion(client, name, "", "1", "first")
    assert replace_champion(client, name, "1", "2", "better")
    client.delete_model_version(name, "2")
    assert find_champion(client, name) is None
    assert aliases(client, name) == (None, "1")
    assert replace_champion(client, name, "", "3", "first again")


def test_an_alias_set_before_there_was_a_log_is_the_champion(client, name):
    client.set_registered_model_alias(name, CHAMPION, "2")
    assert str(find_champion(client, name)) == f"{name}/2/"
    assert not replace_champion(client, name, "", "3", "first")


def test_no_model_no_champion(client):
    assert find_champion(client, "nowhere") is None
    assert find(client, "nowhere", CHAMPION) is None


def test_a_version_survives_its_string():
    version = ModelVersion("sella-rec", "3", "m-1")
    assert ModelVersion.parse(str(version)) == version
    assert ModelVersion.parse("") is None
