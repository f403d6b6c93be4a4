"""As much of S3's protocol, on loopback, as the steps use: buckets and objects by path, listed, read and written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.fakes.api import ApiHandler


@dataclass
class Store:
    """Objects by bucket and key; `seen` holds each request's method, path and headers; `refuse` answers all with it."""

    buckets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    refuse: int | None = None


class _Handler(ApiHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def do_HEAD(self) -> None:  # noqa: N802
        self.answer()

    def do_PUT(self) -> None:  # noqa: N802
        self.answer()

    def answer(self) -> None:
        address = urlsplit(self.path)
        bucket, _, key = unquote(address.path).lstrip("/").partition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.store.seen.append((self.command, self.path, dict(self.headers)))
        objects = self.store.buckets.get(bucket)
        if self.store.refuse:
            self._send(self.store.refuse)
        elif objects is None:
            self._send(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        elif self.command == "PUT":
            objects[key] = body
            self._send(200)
        elif not key:
            query = parse_qs(address.query)
            self._send(200, self._listing(objects, query.get("prefix", [""])[0], "delimiter" in query))
        elif key in objects:
            self._send(200, objects[key])
        else:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def _listing(self, objects: dict[str, bytes], prefix: str, by_folder: bool) -> bytes:
        contents, folders = "", set()
        for key, content in sorted(objects.items()):
            if not key.startswith(prefix):
                continue
            head, slash, _ = key[len(prefix) :].partition("/")
            if by_folder and slash:
                folders.add(prefix + head + slash)
                continue
            contents += (
                f"<Contents><Key>{escape(key)}</Key><Size>{len(content)}</Size><ETag>e</ETag>"
                "<LastModified>2026-11-01T00:00:00.000Z</LastModified></Contents>"
            )
        common = "".join(f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>" for p in sorted(folders))
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}{common}</ListBucketResult>".encode()

    def _send(self, status: int, content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", formatdate(0, usegmt=True))
        self.send_header("ETag", '"e"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def serve() -> Iterator[tuple[str, Store]]:
    """A store at the address that is yielded, until the block ends."""
    store = Store()
    handler = type("Handler", (_Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
