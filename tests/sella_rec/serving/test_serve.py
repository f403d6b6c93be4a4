"""The server as a process of its own, over the tiny model, without the packages that the image to serve lacks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests

from sella_rec.model.bundle import load_bundle
from sella_rec.model.ranker import Ranker, Request
from sella_rec.serving.gateway import VERSION_HEADER
from sella_rec.tracking.registry import CHAMPION
from tests.sella_rec.serving.conftest import NAME

pytestmark = pytest.mark.slow
_SERVE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("kfp", "typer", "pipeline"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
import time
from pathlib import Path
from sella_rec.serving.__main__ import main
from sella_rec.serving.scoring_app import BoundedModel

class Held(BoundedModel):
    def predict(self, data, params=None):
        while Path("hold").exists():
            Path("asked").touch()
            time.sleep(0.01)
        return super().predict(data, params)

sys.modules[BoundedModel.__module__].BoundedModel = Held
main()
"""
_SECONDS = 120
# a long request: 20 rows of 80 candidates
_MANY = {"dataframe_records": [{"user_id": "1", "candidates": [str(n) for n in range(1, 81)]}] * 20}


@pytest.fixture(scope="module")
def server(registry: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """`url`, `process` and `folder`, where it runs."""
    folder = tmp_path_factory.mktemp("serve")
    log = folder.with_suffix(".log")
    options = ["--port=0", "--poll-seconds=0.2", "--drain-seconds=0.2", "--max-items=10000", "--wait"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, *options], cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        found = until(lambda: re.search(r"running on (http://\S+)", log.read_text()), process, log)
        url = found.group(1)
        until(lambda: requests.get(f"{url}/ping", timeout=_SECONDS).status_code == 200, process, log)
        yield SimpleNamespace(url=url, process=process, folder=folder, log=log)
    finally:
        process.kill()
        process.wait()


def until(true: Callable[[], Any], process: subprocess.Popen[bytes], log: Path) -> Any:
    deadline = time.monotonic() + _SECONDS
    while not (result := true()):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return result


def ask(server: SimpleNamespace, *rows: dict[str, Any], **params: int) -> requests.Response:
    body = {"dataframe_records": list(rows), "params": params}
    return requests.post(f"{server.url}/invocations", json=body, timeout=_SECONDS)


def version(server: SimpleNamespace) -> dict[str, Any]:
    return requests.get(f"{server.url}/version", timeout=_SECONDS).json()


def test_it_answers_as_the_bundle_does(server, fused):
    known, new = {"user_id": "1", "candidates": ["3", "60", "9"]}, {"history": ["Comet", "Moon"]}
    answer = ask(server, known, new, top_n=4, retrieve=20)
    assert answer.status_code == 200, answer.text
    assert answer.headers[VERSION_HEADER] == "1"
    wanted = [Request("1", candidates=("3", "60", "9")), Request(history=("Comet", "Moon"))]
    expected = Ranker(load_bundle(fused, "cpu")).rank(wanted, top_n=4, retrieve=20)
    for found, ranking in zip(answer.json()["predictions"], expected, strict=True):
        assert (found["item_ids"], found["titles"]) == (ranking.item_ids, ranking.titles)
        np.testing.assert_allclose(found["scores"], ranking.scores, atol=1e-5)
        assert found["ranks"] == ranking.ranks.tolist()


def test_a_bad_request_is_told_its_field(server):
    for row, field in (({"user_id": "1", "candidates": ["999"]}, "candidates[0]"), ({"history": [""]}, "history[0]")):
        refused = ask(server, row)
        assert (refused.status_code, refused.json()["message"].partition(":")[0]) == (400, field)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"dataframe_records": [{"user_id": "1", "candidates": ["3"]}], "parms": {"top_n": 1}}, "parms: unknown"),
        ("[" * 100_000, "nested too deeply"),
        ("{", "JSON"),
        ([1], "JSON"),
    ],
)
def test_a_body_that_is_none_is_refused(server, body, said):
    text = body if isinstance(body, str) else json.dumps(body)
    headers = {"content-type": "application/json"}
    refused = requests.post(f"{server.url}/invocations", data=text, headers=headers, timeout=_SECONDS)
    assert refused.status_code == 400
    assert said in refused.json()["message"]


def test_what_it_serves_and_nothing_written_where_it_runs(server):
    expected = {"name": NAME, "version": "1", "alias": CHAMPION, "code_version": "c0de", "load_error": None}
    assert version(server) == expected
    assert list(server.folder.iterdir()) == []


def test_the_champion_moves_under_load_and_no_request_fails(server, registry):
    statuses, versions, stop = [], [], threading.Event()

    def client() -> None:
        while not stop.is_set():
            answer = ask(server, {"user_id": "1", "candidates": ["3"]})
            statuses.append(answer.status_code)
            versions.append(answer.headers.get(VERSION_HEADER))

    threads = [threading.Thread(target=client) for _ in range(3)]
    for thread in threads:
        thread.start()
    registry.set_registered_model_alias(NAME, CHAMPION, "2")
    until(lambda: version(server)["version"] == "2", server.process, server.log)
    until(lambda: "2" in versions, server.process, server.log)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert set(versions) == {"1", "2"}


def test_a_broken_champion_is_refused_and_the_old_one_goes_on(server, registry):
    until(lambda: version(server)["version"] == "1", server.process, server.log)
    registry.set_registered_model_alias(NAME, CHAMPION, "3")
    told = until(lambda: version(server)["load_error"] and version(server), server.process, server.log)
    assert (told["version"], told["load_error"]["version"]) == ("1", "3")
    assert "format 99" in told["load_error"]["reason"]
    assert ask(server, {"user_id": "1", "candidates": ["3"]}).status_code == 200


def test_sigterm_finishes_the_request_in_flight(server):
    answers: list[requests.Response] = []
    hold = server.folder / "hold"
    hold.touch()

    def client() -> None:
        answers.append(requests.post(f"{server.url}/invocations", json=_MANY, timeout=_SECONDS))

    thread = threading.Thread(target=client)
    thread.start()
    until((server.folder / "asked").exists, server.process, server.log)
    server.process.send_signal(signal.SIGTERM)
    assert requests.get(f"{server.url}/ping", timeout=_SECONDS).status_code == 503
    assert not answers
    hold.unlink()
    thread.join()
    assert answers[0].status_code == 200
    assert len(answers[0].json()["predictions"]) == 20
    assert server.process.wait(_SECONDS) == 0
