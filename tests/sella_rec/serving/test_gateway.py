"""Limits, queue, readiness and shutdown over HTTP, before a model whose answers the test lets go one by one."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from sella_rec.serving.gateway import VERSION_HEADER, Gateway, Limits
from sella_rec.serving.scoring_app import Served
from sella_rec.serving.server import Server

LIMITS = Limits(max_bytes=100, concurrency=2, queue=3)


class Planted:
    """An ASGI model that answers with its request's body once it may."""

    def __init__(self) -> None:
        self.may_answer, self.running, self.most_at_once, self.seen = threading.Event(), 0, 0, 0

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        self.seen += 1
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        while not self.may_answer.is_set():
            await asyncio.sleep(0.005)
        self.running -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def served(self, version: str) -> Served:
        return Served(self, {"name": "planted", "version": version, "alias": "champion", "code_version": "c0de"}, None)


@contextmanager
def listening(gateway: Gateway, drain_seconds: float = 0) -> Iterator[tuple[str, Server]]:
    server = Server(gateway, "127.0.0.1", 0, drain_seconds)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", server
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "waited for 10 s"
        time.sleep(0.005)


@pytest.fixture
def model() -> Planted:
    return Planted()


@pytest.fixture
def gateway(model: Planted) -> Gateway:
    made = Gateway(LIMITS)
    made.served = model.served("1")
    return made


@pytest.fixture
def clients() -> Iterator[Callable[..., Future[requests.Response]]]:
    """`clients(url, body)` posts in a thread of its own."""
    with ThreadPoolExecutor(16) as pool:
        yield lambda url, body=b"{}": pool.submit(requests.post, f"{url}/invocations", data=body, timeout=20)


def test_not_ready_without_a_model_and_alive_all_the_same(model):
    gateway = Gateway(LIMITS)
    with listening(gateway) as (url, _):
        assert requests.get(f"{url}/health", timeout=5).status_code == 200
        for path in ("ping", "version"):
            assert requests.get(f"{url}/{path}", timeout=5).status_code == 503
        assert requests.post(f"{url}/invocations", data=b"{}", timeout=5).status_code == 503
        gateway.served = model.served("1")
        assert requests.get(f"{url}/ping", timeout=5).status_code == 200


def test_version_tells_the_model_its_alias_code_and_what_was_refused(gateway):
    gateway.load_error = {"version": "2", "reason": "broken"}
    with listening(gateway) as (url, _):
        told = requests.get(f"{url}/version", timeout=5).json()
    assert told == {
        "name": "planted",
        "version": "1",
        "alias": "champion",
        "code_version": "c0de",
        "load_error": {"version": "2", "reason": "broken"},
    }


def test_a_body_at_the_limit_passes_and_one_byte_more_is_refused(gateway, model):
    model.may_answer.set()
    with listening(gateway) as (url, _):
        good = requests.post(f"{url}/invocations", data=b"x" * 100, timeout=5)
        assert (good.status_code, good.content, good.headers[VERSION_HEADER]) == (200, b"x" * 100, "1")
        declared = requests.post(f"{url}/invocations", data=b"x" * 101, timeout=5)
        # without a length in its header, as a generator is sent
        chunked = requests.post(f"{url}/invocations", data=iter([b"x" * 60, b"x" * 41]), timeout=5)
        for refused in (declared, chunked):
            assert refused.status_code == 413
            assert "more than 100 bytes" in refused.json()["message"]
    assert model.seen == 1


def test_overload_is_refused_at_once_and_what_was_taken_on_is_answered(gateway, model, clients):
    with listening(gateway) as (url, _):
        taken = [clients(url) for _ in range(LIMITS.concurrency + LIMITS.queue)]
        until(lambda: gateway._admitted == len(taken))
        for _ in range(3):
            refused = requests.post(f"{url}/invocations", data=b"{}", timeout=5)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert "overloaded" in refused.json()["message"]
        # the probes answer meanwhile
        assert requests.get(f"{url}/ping", timeout=5).status_code == 200
        model.may_answer.set()
        assert [future.result().status_code for future in taken] == [200] * len(taken)
        assert requests.post(f"{url}/invocations", data=b"{}", timeout=5).status_code == 200
    assert model.most_at_once == LIMITS.concurrency


def test_nobody_computes_for_a_caller_who_gave_up_in_the_queue(gateway, model, clients):
    with listening(gateway) as (url, _):
        running = [clients(url) for _ in range(LIMITS.concurrency)]
        until(lambda: model.running == LIMITS.concurrency)
        with pytest.raises(requests.exceptions.ReadTimeout):
            requests.post(f"{url}/invocations", data=b"{}", timeout=0.3)
        model.may_answer.set()
        assert [future.result().status_code for future in running] == [200, 200]
        until(lambda: gateway._admitted == 0)
    assert model.seen == LIMITS.concurrency


def test_a_swap_leaves_requests_in_flight_with_the_old_model(gateway, model, clients):
    new = Planted()
    new.may_answer.set()
    with listening(gateway) as (url, _):
        old = clients(url, b"old")
        until(lambda: model.running == 1)
        gateway.served = new.served("2")
        later = requests.post(f"{url}/invocations", data=b"new", timeout=5)
        assert (later.content, later.headers[VERSION_HEADER]) == (b"new", "2")
        assert not old.done()
        model.may_answer.set()
        assert (old.result().content, old.result().headers[VERSION_HEADER]) == (b"old", "1")


def test_sigterm_ends_readiness_first_then_finishes_what_is_in_flight(gateway, model, clients):
    with listening(gateway, drain_seconds=0.5) as (url, server):
        running = clients(url, b"in flight")
        until(lambda: model.running == 1)
        server.handle_exit(signal.SIGTERM, None)
        assert requests.get(f"{url}/ping", timeout=5).status_code == 503
        assert requests.get(f"{url}/health", timeout=5).status_code == 200
        # a request that was sent before anybody noticed is taken
        late = clients(url, b"late")
        until(lambda: model.running == 2)
        until(lambda: server.should_exit)
        until(lambda: _refused(url))
        assert not running.done()
        model.may_answer.set()
        assert [running.result().content, late.result().content] == [b"in flight", b"late"]
        assert late.result().headers["connection"] == "close"


def _refused(url: str) -> bool:
    try:
        requests.get(f"{url}/ping", timeout=5)
    except requests.exceptions.ConnectionError:
        return True
    return False
