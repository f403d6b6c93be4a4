"""Folders that are Delta Lake or Iceberg tables: which of their files count is in their logs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Literal

from fsspec.implementations.local import LocalFileSystem

from sella_rec.data.errors import DataError
from sella_rec.files import open_store

_METADATA = re.compile(r"(?:^|/)v?(?P<version>\d+)[^/]*\.metadata\.json$")


@dataclass(frozen=True)
class LakehouseTable:
    """A table of one of the two kinds, in its newest state.

    Attributes:
        name: what messages call it.
        address: of the folder (Delta) or of the newest metadata file (Iceberg).
    """

    name: str
    kind: Literal["delta", "iceberg"]
    address: str

    def open(self) -> Any:
        """deltalake's `DeltaTable` or pyiceberg's `StaticTable`; DataError if it is not installed or cannot read it."""
        try:
            return _open_delta(self.address) if self.kind == "delta" else _open_iceberg(self.address)
        except ModuleNotFoundError as error:
            package = "deltalake" if self.kind == "delta" else "pyiceberg"
            raise DataError(f"{self.name}: a table of this kind needs a package: pip install {package}") from error
        except Exception as error:  # both raise their own kinds, and their stores'
            raise DataError(f"{self.name}: the {self.kind} table cannot be read: {error}") from error

    def state(self) -> str:
        """The version or snapshot that is read; DataError as `open`."""
        table = self.open()
        if self.kind == "delta":
            return f"{table.metadata().id} {table.version()}"
        snapshot = table.current_snapshot()
        return f"{table.metadata.table_uuid} {snapshot and snapshot.snapshot_id}"


def lakehouse_table(uri: str) -> LakehouseTable | None:
    """The table that an address is: its folder, or one metadata file of Iceberg; none if it is neither.

    Raises:
        DataError: the store cannot be asked, or two of Iceberg's metadata files are equally new.
    """
    if re.search(r"[*?]|::|^https?://", uri):
        return None
    filesystem, path = open_store(uri, DataError)
    try:
        if _METADATA.search(path):
            return LakehouseTable(uri, "iceberg", _address(filesystem, path))
        if not filesystem.isdir(path):
            return None
        if filesystem.isdir(f"{path}/_delta_log"):
            return LakehouseTable(uri, "delta", _address(filesystem, path))
        found = filesystem.ls(f"{path}/metadata", detail=False) if filesystem.isdir(f"{path}/metadata") else []
    except Exception as error:  # every driver raises its own kinds
        raise DataError(f"{uri}: cannot be read: {error}") from error
    versions = [(int(match["version"]), name) for name in found if (match := _METADATA.search(name))]
    if not versions:
        return None
    newest = [name for version, name in sorted(versions) if version == max(versions)[0]]
    if len(newest) > 1:
        choices = ", ".join(_address(filesystem, name) for name in newest)
        raise DataError(f"{uri}: several metadata files are equally new; give the one that counts: {choices}")
    return LakehouseTable(uri, "iceberg", _address(filesystem, newest[0]))


def _address(filesystem: Any, path: str) -> str:
    return path if isinstance(filesystem, LocalFileSystem) else str(filesystem.unstrip_protocol(path))


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL", "")


def _open_delta(address: str) -> Any:
    from deltalake import DeltaTable

    # keys and address of the store are read from the environment, and http:// is refused there
    return DeltaTable(address, storage_options={"allow_http": str(_endpoint().startswith("http://")).lower()})


def _open_iceberg(address: str) -> Any:
    from pyiceberg.table import StaticTable

    return StaticTable.from_metadata(address, {"s3.endpoint": _endpoint()} if _endpoint() else {})
