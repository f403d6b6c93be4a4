"""Services that are away for a while: a step waits for them, a command says so at once.

What passes by itself (no connection, no answer, 429, 5xx) is told from what does not (401, 403, 404, a wrong file) by
the error that all others came from: libraries and this code wrap errors into their own.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sella_rec.addresses import without_password
from sella_rec.environment import PATIENCE

T = TypeVar("T")

# Seconds. An upgrade of a server or a lost node takes minutes.
STEP_PATIENCE = 900
_MLFLOW_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# MLflow's client takes ten at most; with urllib3's rule they are 0, 30, 60 and seven times 120 seconds apart: 930
_MLFLOW_PATIENCE = {_MLFLOW_RETRIES: "10", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "15"}
_LONGEST_PAUSE = 60.0

_TRANSIENT_STATUSES = {408, 429, 500, 502, 503, 504}
# by name, as whoever raises them is imported already and nobody else should have to be; base classes count
_TRANSIENT = {
    "builtins.ConnectionError",
    "builtins.TimeoutError",
    "socket.gaierror",
    "multiprocessing.TimeoutError",
    "http.IncompleteRead",
    "urllib3.HTTPError",
    "requests.ConnectionError",
    "requests.Timeout",
    "requests.ChunkedEncodingError",
    "httpx.TransportError",
    "httpx2.TransportError",
    "aiohttp.ClientConnectionError",
    "aiohttp.ClientPayloadError",
    "botocore.ConnectionError",
    "botocore.HTTPClientError",
}
_PERMANENT = {"ssl.SSLCertVerificationError", "urllib3.LocationValueError", "huggingface_hub.OfflineModeIsEnabled"}
# MLflow puts the errors of a download into one text
_BROKEN_OFF = ("Connection broken", "Read timed out")
log = logging.getLogger(__name__)


def be_patient() -> None:
    """From here on, in this process and those it starts: wait a quarter of an hour for services that are away.

    What the user has set goes before.
    """
    os.environ.setdefault(PATIENCE, str(STEP_PATIENCE))
    if _MLFLOW_RETRIES not in os.environ:
        os.environ.update(_MLFLOW_PATIENCE)


def retrying(
    work: Callable[[], T], sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
) -> T:
    """Do what asks a service; in a patient process again and again, while it fails for what passes by itself.

    The pause doubles up to a minute. Work that has been done in part must bear being done again.

    Raises:
        Exception: the work's own: the last one, or the first that does not pass.
    """
    until, pause = clock() + float(os.environ.get(PATIENCE, "0")), 1.0
    while True:
        try:
            return work()
        except Exception as error:
            if clock() >= until or not is_transient(error):
                raise
            log.warning("%s: %s; trying again", type(error).__name__, without_password(str(error)))
        # apart from the generator that a training seeds and counts on
        sleep(pause * random.SystemRandom().uniform(0.5, 1.0))
        pause = min(2 * pause, _LONGEST_PAUSE)


def is_transient(error: BaseException) -> bool:
    """Whether an error is of the kind that passes; the first of its causes that tells decides."""
    verdicts = (_verdict(each) for each in reversed(list(_causes(error))))
    return next((verdict for verdict in verdicts if verdict is not None), False)


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _verdict(error: BaseException) -> bool | None:
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    if names & _PERMANENT:
        return False
    status = _status(error)
    if status is not None:
        return status in _TRANSIENT_STATUSES
    if names & _TRANSIENT:
        return True
    if "mlflow.MlflowException" in names and any(text in str(error) for text in _BROKEN_OFF):
        return True
    return None


def _status(error: BaseException) -> int | None:
    """The HTTP status of an answer that was an error, as requests, httpx, botocore and Kubernetes' client keep it."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", getattr(error, "status", None))
    return status if isinstance(status, int) and status >= 400 else None


class PatientStore:
    """A file system of fsspec, or a file of it, each of whose calls is retried.

    Its calls bear being repeated: an object is written whole, and a file that is read moves on only once it has read.
    """

    def __init__(self, wrapped: Any):
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        return _retried(found) if callable(found) else found

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder. fsspec's own says no where the store does not answer."""
        return self._type(path) is not None

    def isfile(self, path: str) -> bool:
        """Whether there is a file, as `exists`."""
        return self._type(path) == "file"

    def isdir(self, path: str) -> bool:
        """Whether there is a folder, as `exists`."""
        return self._type(path) == "directory"

    def _type(self, path: str) -> str | None:
        try:
            return str(self.info(path)["type"])
        except FileNotFoundError:
            return None

    def __enter__(self) -> PatientStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._wrapped.close()


def _retried(call: Callable[..., Any]) -> Callable[..., Any]:
    def patient(*args: Any, **kwargs: Any) -> Any:
        result = retrying(lambda: call(*args, **kwargs))
        return PatientStore(result) if hasattr(result, "read") else result

    return patient
