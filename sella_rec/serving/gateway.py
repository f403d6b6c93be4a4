"""The HTTP application in front of the model: readiness, version, bounded requests, a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sella_rec.model.ranker import RequestError
from sella_rec.serving.checks import check_keys
from sella_rec.serving.scoring_app import Served

VERSION_HEADER = "sella-model-version"
_RETRY_AFTER_SECONDS = "1"


@dataclass(frozen=True)
class Limits:
    """Limits on what the server accepts at the same time.

    Attributes:
        max_bytes: of a request's body. 1 MiB: ten thousand titles.
        concurrency: model calls at once. 1: a call uses all cores, or the GPU, by itself.
        queue: requests that wait. 16: later ones would wait for longer than most callers do.
    """

    max_bytes: int = 2**20
    concurrency: int = 1
    queue: int = 16


class Gateway:
    """The state of the server. Written by one thread each: `served` by the watcher's, `draining` by the signal's.

    Attributes:
        served: the model that new requests go to; a request keeps the one it began with. None until one is loaded.
        load_error: version that could not be loaded, and why; shown by `/version`.
        draining: a shutdown has begun: not ready, though requests are still answered.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.served: Served | None = None
        self.load_error: dict[str, str] | None = None
        self.draining = False
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._admitted = 0

    def app(self) -> ASGIApp:
        """The ASGI application."""
        routes = [
            Route("/health", self._health),
            Route("/ping", self._ping),
            Route("/version", self._version),
            Route("/invocations", _Endpoint(self._invocations), methods=["POST"]),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        # MLflow calls the model in the loop's executor. Always the same threads: each keeps a pool of torch's own.
        executor = ThreadPoolExecutor(self.limits.concurrency, thread_name_prefix="model")
        asyncio.get_running_loop().set_default_executor(executor)
        yield

    async def _health(self, _request: Request) -> Response:
        """Alive: for a liveness probe."""
        return Response("\n")

    async def _ping(self, _request: Request) -> Response:
        """Ready for requests: for a readiness probe."""
        ready = self.served is not None and not self.draining
        return Response("\n", HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _version(self, _request: Request) -> Response:
        if self.served is None:
            return self._unavailable("no model is loaded yet", load_error=self.load_error)
        return JSONResponse({**self.served.about, "load_error": self.load_error})

    async def _invocations(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await self._body(request)
        if isinstance(body, Response):
            return await body(scope, receive, send)
        try:
            check_keys(body)
        except RequestError as error:
            return await _error(HTTPStatus.BAD_REQUEST, "BAD_REQUEST", str(error))(scope, receive, send)
        if self.served is None:
            return await self._unavailable("no model is loaded yet")(scope, receive, send)
        if self._admitted >= self.limits.concurrency + self.limits.queue:
            return await self._unavailable("overloaded")(scope, receive, send)
        self._admitted += 1
        try:
            async with self._slots:
                # under overload callers give up, and computing their answers would delay the others
                if not await request.is_disconnected():
                    await self._forward(self.served, request, body, send)
        finally:
            self._admitted -= 1

    async def _forward(self, served: Served, request: Request, body: bytes, send: Send) -> None:
        """Let MLflow answer; the response names the version and, while the server ends, closes the connection."""
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        version = (served.about.get("version") or "").encode()

        async def receive() -> Message:
            return unread.pop() if unread else await request.receive()

        async def send_labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                leave = [(b"connection", b"close")] if self.draining else []
                message["headers"] = [*message["headers"], (VERSION_HEADER.encode(), version), *leave]
            await send(message)

        await served.app(dict(request.scope), receive, send_labelled)

    async def _body(self, request: Request) -> bytes | Response:
        """The body, or the error response for one that is too large, as soon as that is known."""
        limit, body = self.limits.max_bytes, bytearray()
        declared = request.headers.get("content-length", "0")
        too_large = _error(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "REQUEST_TOO_LARGE",
            f"the body has more than {limit} bytes; split the request",
        )
        if declared.isdecimal() and int(declared) > limit:
            return too_large
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                return too_large
        return bytes(body)

    def _unavailable(self, why: str, **more: object) -> Response:
        response = _error(HTTPStatus.SERVICE_UNAVAILABLE, "TEMPORARILY_UNAVAILABLE", f"{why}; try again later", **more)
        response.headers["retry-after"] = _RETRY_AFTER_SECONDS
        return response


class _Endpoint:
    """Starlette hands bare ASGI to objects; functions and methods get a request and have to return a response."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            return


def _error(status: HTTPStatus, code: str, message: str, **more: object) -> JSONResponse:
    """In the form of MLflow's own errors."""
    return JSONResponse({"error_code": code, "message": message, **more}, status)
