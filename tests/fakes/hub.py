"""A small server that plays the Hugging Face hub with one model, and is away now and then."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from tests.fakes.api import ApiHandler

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds, and what it was asked.

    Attributes:
        folder: the files of the model `org/tiny`; no other is known.
        away: so many requests for each path are answered with 503 first.
        requests: how often each path was asked for.
    """

    folder: Path
    away: int = 0
    requests: Counter[str] = field(default_factory=Counter)


class _Handler(ApiHandler):
    hub: ClassVar[Hub]

    def answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests[path] += 1
        if self.hub.requests[path] <= self.hub.away:
            self._send(503, b"")
        elif path.startswith("/api/models/org/tiny/tree/"):
            files = [file for file in self.hub.folder.iterdir() if file.is_file()]
            tree = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _oid(f)} for f in files]
            self._send(200, json.dumps(tree).encode())
        elif path.startswith("/api/models/org/tiny"):
            names = [{"rfilename": file.name} for file in self.hub.folder.iterdir()]
            self._send(200, json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": names}).encode())
        elif path.startswith("/org/tiny/resolve/") and (self.hub.folder / path.rpartition("/")[2]).is_file():
            file = self.hub.folder / path.rpartition("/")[2]
            self._send(200, file.read_bytes(), {"ETag": f'"{_oid(file)}"'})
        else:
            code = "EntryNotFound" if path.startswith("/org/tiny/") else "RepoNotFound"
            self._send(404, b"", {"X-Error-Code": code})

    def _send(self, status: int, content: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"X-Repo-Commit": COMMIT} | (more or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextmanager
def serve(hub: Hub) -> Iterator[str]:
    """The server's address."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
