"""Files and folders by path or URI, on any store that fsspec knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fsspec.core import url_to_fs


def open_store(uri: str, error_of: Callable[[str], Exception]) -> tuple[Any, str]:
    """The file system behind a path or URI, and what it calls the place.

    Args:
        error_of: makes the error from its message.

    Raises:
        Exception: of `error_of`: not an address, or no driver for its kind.
    """
    try:
        return url_to_fs(uri)
    except ImportError as error:
        message = f"{uri}: the driver for this kind of address is not installed: {error} (with pip)"
        raise error_of(message) from error
    except ValueError as error:
        raise error_of(f"{uri}: {error}; give a path or an fsspec URI such as s3://bucket/folder") from error
