"""One uvicorn process around a gateway, and its shutdown in two parts."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import uvicorn

from sella_rec.serving.gateway import Gateway

# accepted requests are answered within this time, or lost
FINISH_SECONDS = 60


class Server(uvicorn.Server):
    """On SIGTERM first not ready; then no new connections; ends when the last request is answered.

    Args:
        drain_seconds: from the first to the second, since routers of requests need time to notice.
    """

    def __init__(self, gateway: Gateway, host: str, port: int, drain_seconds: float):
        super().__init__(
            uvicorn.Config(
                gateway.app(),
                host=host,
                port=port,
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                # longer than load balancers keep theirs, or they would send into a connection that closes
                timeout_keep_alive=75,
                timeout_graceful_shutdown=FINISH_SECONDS,
            )
        )
        self._gateway, self._drain_seconds = gateway, drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's signal handler. Ctrl-C does not wait, and a second signal ends the waiting."""
        waits = sig == signal.SIGTERM and not self._gateway.draining
        self._gateway.draining = True
        if waits:
            threading.Timer(self._drain_seconds, self._stop).start()
        elif sig == signal.SIGTERM:
            self._stop()
        else:
            super().handle_exit(sig, frame)

    def _stop(self) -> None:
        self.should_exit = True
