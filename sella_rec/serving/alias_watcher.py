"""Where the model comes from: a version on disk, found by its alias, and a watcher that follows the alias."""

from __future__ import annotations

import gc
import logging
import shutil
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sella_rec.environment import cache_folder
from sella_rec.files import atomic_output
from sella_rec.serving.gateway import Gateway
from sella_rec.serving.scoring_app import Served, load_served
from sella_rec.tracking.registry import ModelVersion, RegistryError, download, find
from sella_rec.tracking.runs import CODE_TAG, pipeline_run_of

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as RegisteredVersion

_KEPT = 2
_POLLS_UNTIL_TRIED_AGAIN = 10
log = logging.getLogger(__name__)


def from_uri(uri: str, max_items: int) -> Served:
    """Load one model for good.

    Args:
        uri: any of MLflow's, for instance `models:/sella-rec/3`, `runs:/<id>/sella-rec` or a folder.

    Raises:
        RegistryError: it is not there, or does not work.
    """
    about = {"name": uri, "version": None, "alias": None, "code_version": None}
    try:
        with TemporaryDirectory() as folder:
            place = Path(uri) if Path(uri).is_dir() else download(uri, Path(folder))
            return load_served(place, about, max_items)
    except Exception as error:
        raise RegistryError(f"{uri} cannot be served: {error}") from error


class AliasWatcher:
    """Keeps a gateway's model the version that an alias points to.

    A new version is loaded beside the old one and takes its place in one assignment. A broken one is logged, and the
    old one stays.

    Args:
        every: seconds between two checks of the registry.
    """

    def __init__(self, gateway: Gateway, name: str, alias: str, max_items: int, every: float):
        from mlflow import MlflowClient

        self._gateway, self._client = gateway, MlflowClient()
        self._name, self._alias, self._max_items, self._every = name, alias, max_items, every
        self._now: str | None = None
        self._load_error: str | None = None
        self._try_again_at = 0.0
        self._replaced = False

    def start(self) -> None:
        """Follow the alias in a separate thread, until the process ends."""
        threading.Thread(target=self._watch, name="alias-watcher", daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                self.update()
            except RegistryError as error:
                log.warning("not updated: %s", error, exc_info=error.__cause__)
            except Exception:
                # a registry that does not answer, or anything else: the served model stays
                log.exception("not updated: looking up %s@%s failed", self._name, self._alias)
            time.sleep(self._every)

    def update(self) -> None:
        """Check the alias, and load the version that it points to unless it is served already.

        Raises:
            RegistryError: the alias points nowhere, or to a version that does not work; the old one still serves.
        """
        wanted = find(self._client, self._name, self._alias)
        if wanted is None:
            raise RegistryError(
                f"the registry has no {self._name}@{self._alias}: a pipeline run registers a version, "
                "`sella promote VERSION` makes it the champion"
            )
        if self._replaced:
            # models hold reference cycles; its last requests have ended since the last check
            self._replaced = False
            gc.collect()
        registered = self._client.get_model_version(wanted.name, wanted.number)
        # the time, since a model that is deleted and registered again counts from 1 again
        key = f"{wanted.number}-{registered.creation_timestamp}"
        if key == self._now:
            self._load_error = self._gateway.load_error = None
        elif key != self._load_error or time.monotonic() >= self._try_again_at:
            self._load(wanted, registered, key)

    def _load(self, wanted: ModelVersion, registered: RegisteredVersion, key: str) -> None:
        log.info("loading %s", wanted.label)
        try:
            served = load_served(self._fetch(wanted, key), self._about(wanted, registered), self._max_items)
        except Exception as error:
            self._load_error, self._try_again_at = key, time.monotonic() + _POLLS_UNTIL_TRIED_AGAIN * self._every
            self._gateway.load_error = {"version": wanted.number, "reason": str(error)}
            raise RegistryError(f"{wanted.label} cannot be served: {error}") from error
        self._gateway.served, self._gateway.load_error = served, None
        self._now, self._load_error, self._replaced = key, None, True
        log.info("serving %s", wanted.label)
        self._prune()

    def _folder(self) -> Path:
        return cache_folder() / "models" / self._name

    def _fetch(self, version: ModelVersion, key: str) -> Path:
        """The version's folder on disk, downloaded once."""
        folder = self._folder() / key
        if not folder.is_dir():
            with atomic_output(folder) as place:
                place.mkdir()
                download(version.uri, place)
        folder.touch()
        return folder

    def _prune(self) -> None:
        """Remove all downloads but the one in use and the one before it, which a rollback would need."""
        folders = sorted(self._folder().glob("[!.]*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for folder in folders[_KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)

    def _about(self, version: ModelVersion, registered: RegisteredVersion) -> dict[str, str | None]:
        # the pipeline's run has it, a step's has not
        tags = pipeline_run_of(self._client, registered.run_id).data.tags if registered.run_id else {}
        code_version = tags.get(CODE_TAG)
        return {"name": version.name, "version": version.number, "alias": self._alias, "code_version": code_version}
