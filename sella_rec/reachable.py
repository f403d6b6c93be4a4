"""Whether what an address names answers at all, asked once and briefly: drivers themselves try for minutes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fsspec.core import split_protocol
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from sella_rec import object_store

T = TypeVar("T")
# whose drivers ask nobody anything when they are made
_CONNECT_LATER = (None, "file", "local", "memory", "s3", "s3a", "http", "https", "hf")
# protocol -> what it takes to be let in there
_VARIABLES = {
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "the file with a service account's key"),
    "gcs": ("GOOGLE_APPLICATION_CREDENTIALS", "the file with a service account's key"),
    "hf": ("HF_TOKEN", "a token of the hub, which private and gated data need"),
    "abfs": ("AZURE_STORAGE_CONNECTION_STRING", "the storage account's connection string"),
    "az": ("AZURE_STORAGE_CONNECTION_STRING", "the storage account's connection string"),
}


def open_within(uri: str, connect: Callable[[], T], error_of: Callable[[str], Exception]) -> T:
    """What `connect` returns: some drivers go to their server when they are made.

    Raises:
        Exception: of `error_of`: no answer within 25 s; and what `connect` raises.
    """
    if split_protocol(uri)[0] in _CONNECT_LATER:
        return connect()
    try:
        return within(object_store.FIRST_ACCESS_SECONDS, connect)
    except TimeoutError as error:
        raise error_of(f"{uri}: {_silence(uri)}. {_fix(uri)}") from error


def check_answers(filesystem: Any, uri: str, error_of: Callable[[str], Exception]) -> None:
    """Ask the store behind an address for what it names.

    That there is no such file is for the listing to say.

    Raises:
        Exception: of `error_of`: within 30 s no answer, or one that lets nobody in.
    """
    if isinstance(filesystem, (LocalFileSystem, MemoryFileSystem)):
        return
    if "s3" in filesystem.protocol:
        object_store.check_answers(filesystem, uri, error_of)
        return
    ask = _ask_web if "https" in filesystem.protocol else _ask
    try:
        ask(filesystem, uri)
    except FileNotFoundError:
        return
    except TimeoutError as error:
        raise error_of(f"{uri}: {_silence(uri, filesystem)}. {_fix(uri)}") from error
    except Exception as error:  # every driver raises its own kinds
        told = _refusal(error, uri) or f"no use of {_place(uri, filesystem)}: {_first_line(error)}. {_fix(uri)}"
        raise error_of(f"{uri}: {told}") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0]


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns; TimeoutError if it takes longer: then its thread is left behind."""
    outcome: list[Callable[[], T]] = []
    thread = Thread(target=lambda: outcome.append(_outcome(work)), daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError
    return outcome[0]()


def _outcome(work: Callable[[], T]) -> Callable[[], T]:
    try:
        return partial(_same, work())
    except BaseException as error:  # raised again where it is asked for
        return partial(_raise, error)


def _same(value: T) -> T:
    return value


def _raise(error: BaseException) -> Any:
    raise error


def _ask(filesystem: Any, uri: str) -> None:
    within(object_store.FIRST_ACCESS_SECONDS, partial(filesystem.info, filesystem._strip_protocol(_folder(uri))))


def _ask_web(filesystem: Any, uri: str) -> None:
    """Ask a web server for a file, whose content is left there; raises aiohttp's errors."""
    import aiohttp
    from fsspec.asyn import sync

    limits = aiohttp.ClientTimeout(
        connect=object_store.CONNECT_SECONDS,
        sock_connect=object_store.CONNECT_SECONDS,
        sock_read=object_store.ANSWER_SECONDS,
    )

    async def ask() -> None:
        session = await filesystem.set_session()
        async with session.get(filesystem.encode_url(_folder(uri, "*[")), timeout=limits) as answer:
            answer.raise_for_status()

    sync(filesystem.loop, ask, timeout=object_store.FIRST_ACCESS_SECONDS)


def _refusal(error: Exception, uri: str) -> str:
    """What a web server's answer is, and the fix; empty for another error."""
    status = getattr(error, "status", None)
    if not isinstance(status, int) or not uri.startswith(("http://", "https://")):
        return ""
    host = urlsplit(uri).hostname
    said = f"{host} answers {status} {getattr(error, 'message', '')}".strip()
    if status in (401, 403):
        fix = f"`machine {host} login USER password PASSWORD` in ~/.netrc (or the file that NETRC names) is the account"
        return f"{said}. {fix}; an address with a signature may have run out"
    return f"{said}. Is the address right?"


def _folder(uri: str, wild: str = "*?[") -> str:
    """The address, or of a pattern the folder that it is looked for in."""
    cut = min((uri.find(letter) for letter in wild if letter in uri), default=len(uri))
    return uri if cut == len(uri) else uri[:cut].rpartition("/")[0]


def _silence(uri: str, filesystem: Any = None) -> str:
    return f"no answer from {_place(uri, filesystem)} within {object_store.FIRST_ACCESS_SECONDS:.0f} s"


def _place(uri: str, filesystem: Any) -> str:
    """Where the driver goes to, as far as it says so."""
    address = getattr(filesystem, "endpoint", None) or getattr(filesystem, "base", None)
    return address if isinstance(address, str) else urlsplit(uri).netloc or uri


def _fix(uri: str) -> str:
    variable, meaning = _VARIABLES.get(urlsplit(uri).scheme, ("", ""))
    reach = "Is the address right, may this host reach it (HTTPS_PROXY, NO_PROXY), and is the store running?"
    if not variable:
        return reach
    state = "is set" if os.environ.get(variable) else "is not set"
    return f"{variable} {state}; it has to be {meaning}. {reach}"
