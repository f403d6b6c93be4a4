"""Copies of a training's checkpoints on an object store, for volumes that can be lost with their node."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from sella_rec.config import LaunchConfig
from sella_rec.errors import UserError
from sella_rec.files import atomic_output, open_store

STATE = "trainer_state.json"
log = logging.getLogger(__name__)


class CheckpointStoreError(UserError):
    """The store cannot be used; the message names the address and the cause."""


def global_step_of(checkpoint: str | Path) -> int:
    """The optimizer step that a folder `checkpoint-<step>` was written after."""
    return int(str(checkpoint).rpartition("-")[2])


def open_checkpoint_store(launch: LaunchConfig, checkpoints: Path, part: str = "") -> CheckpointStore | None:
    """The store for copies of a folder of checkpoints, under the folder's name; none if none is configured.

    Args:
        part: a subfolder, for a step that trains more than once.
    """
    uri, folder = launch.checkpoint_uri, f"{checkpoints.name}/{part}" if part else checkpoints.name
    return CheckpointStore(f"{uri.rstrip('/')}/{folder}") if uri else None


class CheckpointStore:
    """One training's folder on a store that fsspec knows.

    A copy counts once it holds the Trainer's state, which is written last and removed first: object stores take a
    single file whole or not at all, but know no move of a folder.

    Args:
        uri: of the folder, for instance `s3://bucket/checkpoints/fuse-0123456789abcdef`.

    Raises:
        CheckpointStoreError: no driver for such an address; from every method: the store refuses.
    """

    def __init__(self, uri: str):
        self._uri = uri
        self._store, path = open_store(uri, lambda said: CheckpointStoreError(f"launch.checkpoint_uri: {said}"))
        self._path = path.rstrip("/")

    def keep(self, checkpoint: Path, kept: int) -> None:
        """Copy a complete checkpoint to the store, then remove all but the newest `kept` there."""
        with self._clear_errors():
            # one of the same step that was cut off
            self._remove(checkpoint.name)
            files = [path for path in checkpoint.rglob("*") if path.is_file()]
            for file in sorted(files, key=lambda path: path.name == STATE):
                target = f"{self._path}/{checkpoint.name}/{file.relative_to(checkpoint).as_posix()}"
                if isinstance(self._store, LocalFileSystem):
                    Path(target).parent.mkdir(parents=True, exist_ok=True)
                self._store.put_file(str(file), target)
            for name in self._complete()[:-kept]:
                self._remove(name)

    def fetch(self, folder: Path, after: int) -> None:
        """Copy the newest complete checkpoint here, if it is of a later optimizer step than `after`."""
        with self._clear_errors():
            names = self._complete()
            if not names or global_step_of(names[-1]) <= after:
                return
            log.info("fetching %s/%s", self._uri, names[-1])
            with atomic_output(folder / names[-1]) as place:
                self._store.get(f"{self._path}/{names[-1]}/", f"{place}/", recursive=True)

    def clear(self) -> None:
        """Remove everything of this training, which has succeeded."""
        with self._clear_errors():
            if self._store.isdir(self._path):
                self._store.rm(self._path, recursive=True)

    def _complete(self) -> list[str]:
        """Names of the complete checkpoints, oldest first."""
        # other attempts write here too
        self._store.invalidate_cache()
        states = self._store.glob(f"{self._path}/checkpoint-*/{STATE}")
        return sorted((str(state).split("/")[-2] for state in states), key=global_step_of)

    def _remove(self, name: str) -> None:
        state = f"{self._path}/{name}/{STATE}"
        if self._store.exists(state):
            self._store.rm_file(state)
        if self._store.isdir(f"{self._path}/{name}"):
            self._store.rm(f"{self._path}/{name}", recursive=True)

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # credentials, network, permissions: every driver raises its own kinds
            raise CheckpointStoreError(f"launch.checkpoint_uri: {self._uri} cannot be used: {error}") from error
