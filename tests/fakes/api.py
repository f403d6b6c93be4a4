"""What the servers that play a cluster's APIs have in common."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from typing import Any


class RefusedError(Exception):
    """Ends a request with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def refuse_as_told(refusals: list[Any], asked: str) -> None:
    """Refuse a request for which a test has put (request, status) on the list; it counts once."""
    for refusal in refusals:
        if refusal[0] == asked:
            refusals.remove(refusal)
            raise RefusedError(refusal[1], f"told to answer {refusal[1]}")


class ApiHandler(BaseHTTPRequestHandler):
    """Hands every request to `answer`, and keeps no log: tests read the requests from the server's state."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """None."""

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_DELETE(self) -> None:
        self.answer()

    def answer(self) -> None:
        raise NotImplementedError

    def send(self, status: int, content: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
