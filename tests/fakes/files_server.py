"""A web server for the files of a folder, which can refuse, and ask for an account."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


@dataclass
class Behaviour:
    """Answers all with `status` if that is set, and wants `account` (`user:password`) if there is one."""

    status: int = 0
    account: str = ""
    seen: list[str] = field(default_factory=list)


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, behaviour: Behaviour, **kwargs: Any):
        self.behaviour = behaviour
        super().__init__(*args, **kwargs)

    def send_head(self) -> Any:
        behaviour = self.behaviour
        behaviour.seen.append(f"{self.command} {self.path}")
        wanted = f"Basic {base64.b64encode(behaviour.account.encode()).decode()}"
        if behaviour.account and self.headers.get("Authorization") != wanted:
            self.send_error(401)
            return None
        if behaviour.status:
            self.send_error(behaviour.status)
            return None
        return super().send_head()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[tuple[str, Behaviour]]:
    """Its address on loopback, and what it does, which can be changed."""
    behaviour = Behaviour()
    handler = partial(_Handler, behaviour=behaviour, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", behaviour
    finally:
        server.shutdown()
        server.server_close()
