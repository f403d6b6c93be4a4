"""The folder that recommendations go to, here or on any store that fsspec knows, and what makes a part complete.

`shard=000/part.parquet` and so on, `_summary.json`, and last `_manifest.json`: readers of the folder wait for that one.
Readers of partitioned Parquet ignore names that start with `_`.

A file appears whole or not at all: here by a move, on an object store because a PUT is atomic. Where neither holds, a
truncated part is recognized by its footer, which Parquet writes last: it holds the plan.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from components.recommend.plan import BatchPlan
from sella_rec.errors import UserError
from sella_rec.files import atomic_output, open_store

SUMMARY, MANIFEST = "_summary.json", "_manifest.json"
_PLAN_KEY = b"sella.plan"
_SHARD = re.compile(r"shard=\d{3,}")
_SHOWN = 5


class OutputError(UserError):
    """The folder cannot be used; the message names it and the fix."""


@dataclass(frozen=True)
class Output:
    """A folder.

    Attributes:
        uri: as it was given, for messages.
        path: what `filesystem` calls it.
    """

    uri: str
    filesystem: Any
    path: str

    @classmethod
    def at(cls, uri: str) -> Output:
        """The folder at a path or URI; it need not exist.

        Raises:
            OutputError: no driver for such an address.
        """
        filesystem, path = open_store(uri, OutputError)
        return cls(uri, filesystem, path.rstrip("/"))

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all.

        Raises:
            OutputError: the store refuses.
        """
        with self._clear_errors(name):
            if isinstance(self.filesystem, LocalFileSystem):
                with atomic_output(self._path(name)) as temporary:
                    temporary.write_bytes(content)
            else:
                self.filesystem.pipe_file(self._path(name), content)

    def write_part(self, shard: int, plan: BatchPlan, table: pa.Table) -> None:
        """Write a shard's recommendations.

        Raises:
            OutputError: as `write`.
        """
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({_PLAN_KEY: plan.to_json()}), buffer, compression="zstd")
        self.write(part_name(shard), buffer.getvalue())

    def holds(self, shard: int, plan: BatchPlan) -> bool:
        """Whether a shard's part is complete; only its footer is read.

        Raises:
            OutputError: it is of another plan, or the store refuses.
        """
        name = part_name(shard)
        with self._clear_errors(name):
            try:
                with self.filesystem.open(self._path(name), "rb") as file:
                    schema = pq.read_schema(file)
            except (FileNotFoundError, pa.ArrowInvalid):
                # not there, or cut short
                return False
        self._check(name, schema, plan)
        return True

    def read_part(self, shard: int, plan: BatchPlan) -> tuple[bytes, pa.Table]:
        """A complete part: its bytes and its rows.

        Raises:
            OutputError: it is not there or of another plan, or the store refuses.
        """
        name = part_name(shard)
        with self._clear_errors(name):
            content = self.filesystem.cat_file(self._path(name))
            table = pq.read_table(io.BytesIO(content))
        self._check(name, table.schema, plan)
        return content, table

    def check(self, plan: BatchPlan) -> None:
        """Reject a folder that holds another plan's parts, or what is not ours: nothing is overwritten, and two models
        are never mixed.

        Raises:
            OutputError: it does, or the store refuses.
        """
        self.check_ours()
        with self._clear_errors():
            found = self.filesystem.glob(f"{self.path}/shard=*/part.parquet")
        for shard in sorted(int(path.split("/")[-2].removeprefix("shard=")) for path in found):
            self.holds(shard, plan)

    def check_ours(self) -> None:
        """Reject a folder with files that are not a batch's; hidden ones, which readers pass over, are left alone.

        Raises:
            OutputError: it has some, or is a file, or the store refuses.
        """
        with self._clear_errors():
            is_file = self.filesystem.isfile(self.path)
            listed = self.filesystem.ls(self.path, detail=False) if self.filesystem.isdir(self.path) else []
        if is_file:
            raise OutputError(f"{self.uri}: is a file; choose another folder")
        names = sorted(str(path).rstrip("/").rpartition("/")[2] for path in listed)
        shards = [name for name in names if _SHARD.fullmatch(name)]
        foreign = [name for name in names if name not in shards and not name.startswith((".", "_"))]
        # without a shard they are another program's, and would be overwritten
        foreign += [] if shards else [name for name in names if name in (SUMMARY, MANIFEST)]
        if foreign:
            more = f" and {len(foreign) - _SHOWN:,} more" if len(foreign) > _SHOWN else ""
            held = f"holds what is not a batch's: {', '.join(foreign[:_SHOWN])}{more}"
            raise OutputError(f"{self.uri}: {held}. It is kept as it is: choose a new or empty folder")

    def _check(self, name: str, schema: pa.Schema, plan: BatchPlan) -> None:
        text = (schema.metadata or {}).get(_PLAN_KEY)
        if text is None:
            raise OutputError(f"{self.uri}/{name} was not written by this command: choose another folder")
        found, wanted = json.loads(text), asdict(plan)
        keys = [key for key in wanted if found.get(key) != wanted[key]]
        if keys:
            other = "; ".join(f"{key} {found.get(key)!r}, not {wanted[key]!r}" for key in keys)
            fix = "choose another folder, or remove this one"
            raise OutputError(f"{self.uri}/{name} belongs to another batch ({other}): {fix}")

    def _path(self, name: str) -> str:
        return f"{self.path}/{name}"

    @contextmanager
    def _clear_errors(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except Exception as error:  # credentials, network, permissions: every driver raises its own kinds
            raise OutputError(f"{self.uri}/{name}: cannot be used: {error}") from error


def part_name(shard: int) -> str:
    """Where a shard's part lies in the folder."""
    return f"shard={shard:03}/part.parquet"
