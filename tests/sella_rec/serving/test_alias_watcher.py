"""Following the alias: what is loaded, what is kept on disk, what a broken version and a silent registry do."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from mlflow.exceptions import MlflowException
from starlette.testclient import TestClient

from sella_rec.serving import alias_watcher as source
from sella_rec.serving.alias_watcher import AliasWatcher, from_uri
from sella_rec.serving.gateway import Gateway, Limits
from sella_rec.serving.scoring_app import Answer, BoundedModel
from sella_rec.tracking.registry import CHAMPION, RegistryError
from tests.mlflow_on_s3 import BUCKET_HOST
from tests.sella_rec.serving.conftest import NAME


@pytest.fixture
def gateway() -> Gateway:
    return Gateway(Limits())


@pytest.fixture
def watcher(gateway: Gateway, registry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AliasWatcher:
    """With an empty cache of its own."""
    monkeypatch.setenv("SELLA_CACHE", str(tmp_path))
    return AliasWatcher(gateway, NAME, CHAMPION, max_items=10, every=1)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders loaded, without the cost of it; a bundle of an unknown format is refused, as it is in earnest."""
    folders: list[Path] = []

    def load(folder: Path, about: Any, _max_items: int) -> Any:
        folders.append(folder)
        (note,) = folder.rglob("bundle.json")
        if json.loads(note.read_text())["format"] == 99:
            raise RegistryError("format 99")
        return about

    monkeypatch.setattr(source, "load_served", load)
    return folders


def test_a_moved_alias_is_followed_and_one_that_stays_costs_nothing(watcher, gateway, loaded, registry):
    for _ in range(3):
        watcher.update()
    assert gateway.served == {"name": NAME, "version": "1", "alias": CHAMPION, "code_version": "c0de"}
    registry.set_registered_model_alias(NAME, CHAMPION, "2")
    watcher.update()
    assert gateway.served["version"] == "2"
    assert len(loaded) == 2


def test_versions_are_downloaded_once_and_all_but_the_last_two_removed(watcher, gateway, loaded, registry, tmp_path):
    watcher.update()
    unused = tmp_path / "models" / NAME / "0-0"
    unused.mkdir()
    os.utime(unused, (0, 0))
    registry.set_registered_model_alias(NAME, CHAMPION, "2")
    watcher.update()
    assert sorted(path.name[:2] for path in unused.parent.iterdir()) == ["1-", "2-"]
    # rolled back, as after a restart, with a registry whose artifacts are away
    again = AliasWatcher(gateway, NAME, CHAMPION, 10, 1)
    registry.set_registered_model_alias(NAME, CHAMPION, "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlflow.artifacts.download_artifacts", None)
        again.update()
    assert gateway.served["version"] == "1"


def test_a_broken_version_is_told_of_and_tried_again_only_later(watcher, gateway, loaded, registry, monkeypatch):
    watcher.update()
    registry.set_registered_model_alias(NAME, CHAMPION, "3")
    with pytest.raises(RegistryError, match="version 3 cannot be served: format 99"):
        watcher.update()
    watcher.update()
    assert (gateway.served["version"], gateway.load_error["version"], len(loaded)) == ("1", "3", 2)
    monkeypatch.setattr(watcher, "_try_again_at", 0)
    with pytest.raises(RegistryError):
        watcher.update()
    assert len(loaded) == 3
    registry.set_registered_model_alias(NAME, CHAMPION, "2")
    watcher.update()
    assert (gateway.served["version"], gateway.load_error) == ("2", None)


def test_back_to_what_is_served_forgets_the_broken_version(watcher, gateway, loaded, registry):
    watcher.update()
    registry.set_registered_model_alias(NAME, CHAMPION, "3")
    with pytest.raises(RegistryError):
        watcher.update()
    registry.set_registered_model_alias(NAME, CHAMPION, "1")
    watcher.update()
    assert (gateway.served["version"], gateway.load_error, len(loaded)) == ("1", None, 2)


def test_another_model_under_the_same_name_and_number_is_another(watcher, gateway, loaded, registry):
    first, broken = (registry.get_model_version(NAME, number) for number in ("1", "3"))
    other = AliasWatcher(gateway, "other", CHAMPION, 10, 1)
    for source_ in (first.source, broken.source):
        registry.create_registered_model("other")
        registry.create_model_version("other", source_, first.run_id)
        registry.set_registered_model_alias("other", CHAMPION, "1")
        if source_ == broken.source:
            with pytest.raises(RegistryError, match="format 99"):
                other.update()
        else:
            other.update()
        registry.delete_registered_model("other")
    assert len(loaded) == 2


def test_an_alias_that_points_nowhere_is_an_error_with_the_fix(registry, gateway):
    with pytest.raises(RegistryError, match=r"no sella-rec@nobody.*sella promote VERSION"):
        AliasWatcher(gateway, NAME, "nobody", 10, 1).update()


def test_a_version_that_no_code_reads_is_refused_when_it_is_loaded(registry):
    with pytest.raises(RegistryError, match=r"models:/sella-rec/3 cannot be served.*format 99"):
        from_uri(f"models:/{NAME}/3", max_items=10)


def test_a_model_that_is_replaced_leaves_memory(registry):
    from transformers import LlamaForCausalLM

    def alive() -> int:
        gc.collect()
        return sum(type(each) is LlamaForCausalLM for each in gc.get_objects())

    served = from_uri(f"models:/{NAME}/1", max_items=10)
    once = alive()
    assert once >= 1
    served = from_uri(f"models:/{NAME}/2", max_items=10)
    assert alive() == once
    assert served.about["name"] == f"models:/{NAME}/2"


@pytest.mark.parametrize("uri", ["models:/sella-rec/9", "no/such/folder"])
def test_what_is_not_there_is_said_to_be_so(registry, uri):
    with pytest.raises(RegistryError, match=f"^{uri} cannot be served: "):
        from_uri(uri, max_items=10)


class Raising:
    """A `PyFuncModel` that fails."""

    def __init__(self, error: Exception, model: Any):
        self.metadata, self._error = model.metadata, error

    def predict(self, _data: Any, params: Any = None) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (MlflowException("Failed on 'secret data'. Error: column history", error_code=3), 400, "column history"),
        (KeyError("secret data"), 500, "the model failed on this request; see the server's log"),
    ],
)
def test_errors_tell_the_caller_what_to_mend_and_nothing_of_the_inside(registry, error, status, message, caplog):
    import mlflow
    import pandas as pd

    model = mlflow.models.get_model_info(f"models:/{NAME}/1")
    metadata = mlflow.models.Model.load(model.model_uri)
    bounded = BoundedModel(Raising(error, type("Model", (), {"metadata": metadata})), 10)
    with pytest.raises(Answer) as raised:
        bounded.predict(pd.DataFrame({"user_id": ["1"], "candidates": [["2"]]}))
    assert raised.value.get_http_status_code() == status
    raised.value.message = "as MLflow does: " + "the whole request"
    assert json.loads(raised.value.serialize_as_json())["message"] == message
    assert ("secret data" in caplog.text) == (status == 500)


def test_a_download_that_cannot_succeed_is_told_at_once_in_version_and_log(far_client, tmp_path, monkeypatch, caplog):
    """Waiting for a champion whose bucket is out of reach: one try, with the host, and nothing half downloaded."""
    monkeypatch.setenv("SELLA_CACHE", str(tmp_path))
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")
    gateway = Gateway(Limits())
    # after the first look
    monkeypatch.setattr(source.time, "sleep", Mock(side_effect=SystemExit))
    with pytest.raises(SystemExit):
        AliasWatcher(gateway, NAME, CHAMPION, 10, 1)._watch()
    told = f"cannot be fetched from http://{BUCKET_HOST}:"
    assert told in caplog.text
    with TestClient(gateway.app()) as caller:
        version = caller.get("/version")
    assert version.status_code == 503
    assert version.json()["load_error"]["version"] == "1"
    assert told in version.json()["load_error"]["reason"]
    assert not list(tmp_path.rglob("MLmodel"))


def test_the_code_version_is_the_pipelines_however_deep_the_step_is(watcher, gateway, loaded, registry):
    """As Kubeflow's MLflow plug-in nests runs."""
    experiment, parent = registry.create_experiment("nested"), {}
    for name, tags in (("run", {"sella.code_version": "abc"}), ("exit-handler-1", {}), ("condition-2", {}), ("s", {})):
        run = registry.create_run(experiment, tags=tags | parent, run_name=name)
        parent = {"mlflow.parentRunId": run.info.run_id}
    first = registry.get_model_version(NAME, "1")
    version = registry.create_model_version(NAME, first.source, run.info.run_id)
    registry.set_registered_model_alias(NAME, CHAMPION, version.version)
    watcher.update()
    assert gateway.served["code_version"] == "abc"
    registry.delete_model_version(NAME, version.version)
