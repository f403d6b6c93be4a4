"""`sella promote` and `sella rollback` against a real registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.main import app
from sella_rec.tracking import promotions as champion
from sella_rec.tracking.registry import CHAMPION, PREVIOUS


@pytest.fixture(scope="module")
def client(fresh_store: Callable[[], str]) -> Any:
    """A registry with versions 1 and 2 of sella-rec and no champion."""
    import mlflow

    with pytest.MonkeyPatch.context() as patch:
        uri = fresh_store()
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient()
        client.create_registered_model("sella-rec")
        for _ in range(2):
            client.create_model_version("sella-rec", source="s3://models/any")
        yield client


def sella(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_promote_and_rollback_swap_champion_and_previous(client):
    def aliases() -> dict[str, str]:
        return {alias: str(number) for alias, number in client.get_registered_model("sella-rec").aliases.items()}

    nothing_yet = sella("rollback")
    assert nothing_yet.exit_code == 1
    assert "no previous champion: use `sella promote VERSION`; existing: 1, 2" in nothing_yet.stderr
    assert sella("promote", "1").stdout == "sella-rec version 1 is now the champion\n"
    assert sella("promote", "2").stdout == "sella-rec version 2 is now the champion; the previous one is version 1\n"
    assert sella("promote", "2").stdout == "sella-rec version 2 is already the champion\n"
    assert aliases() == {CHAMPION: "2", PREVIOUS: "1"}
    assert sella("rollback").stdout == "sella-rec version 1 is now the champion; the previous one is version 2\n"
    assert sella("rollback").exit_code == 0
    assert aliases() == {CHAMPION: "2", PREVIOUS: "1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", "9"], "sella-rec has no version 9: existing: 1, 2"),
        (["promote", "best"], "sella-rec has no version best: existing: 1, 2"),
        (["promote", "1", "--model", "sela-rec"], "sela-rec has no version 1: none is registered"),
    ],
)
def test_a_version_that_is_not_there(client, arguments, message):
    refused = sella(*arguments)
    assert refused.exit_code == 1
    assert message in refused.stderr


def test_a_promotion_in_the_same_moment_is_told_of(client, monkeypatch):
    """Somebody promotes version 1 between the command's look and its request."""
    sella("promote", "2")
    find = champion.find_champion

    def find_and_lose(*arguments: Any) -> Any:
        found = find(*arguments)
        assert champion.replace_champion(client, "sella-rec", "2", "1", "by somebody else")
        return found

    client.create_model_version("sella-rec", source="s3://models/any")
    monkeypatch.setattr(champion, "find_champion", find_and_lose)
    refused = sella("promote", "3")
    assert refused.exit_code == 1
    assert "the champion of sella-rec has just been changed by someone else" in refused.stderr


def test_without_a_registry_none_is_made(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    refused = sella("promote", "1")
    assert refused.exit_code == 1
    assert "no mlflow.db in this folder: set MLFLOW_TRACKING_URI" in refused.stderr
    assert list(tmp_path.iterdir()) == []
