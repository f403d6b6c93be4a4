"""The champion, fetched from a registry, on another run's test rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest

from components.score_champion.step import score_champion
from sella_rec.config import Config
from sella_rec.data.dataset import PreparedData
from sella_rec.data.row_selection import evaluation_rows
from sella_rec.model.bundle import load_bundle
from sella_rec.serving import pyfunc as model
from sella_rec.tracking.registry import ModelVersion, RegistryError, download_bundle, get_version
from sella_rec.tracking.tracker import Tracker


@pytest.fixture(scope="module")
def champion(fused: Path, fresh_store: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> ModelVersion:
    """The trained bundle, registered in a store that this process tracks to."""
    with pytest.MonkeyPatch.context() as patch:
        # where artifacts go
        patch.chdir(tmp_path_factory.mktemp("champion"))
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "sella-rec")
        mlflow.set_tracking_uri(fresh_store())
        with mlflow.start_run():
            logged = mlflow.pyfunc.log_model(
                name="sella-rec", python_model=model.__file__, artifacts={"bundle": str(fused)}, pip_requirements=[]
            )
        number = str(mlflow.register_model(logged.model_uri, "sella-rec").version)
        return get_version(mlflow.MlflowClient(), "sella-rec", number)


@pytest.fixture(scope="module")
def same_data(champion: ModelVersion, tiny_config: Config, genre_data: Path, tmp_path_factory) -> pl.DataFrame:
    """Predictions for the data that the champion was trained on."""
    output = tmp_path_factory.mktemp("same") / "scored"
    score_champion(tiny_config, genre_data, str(champion), output, Tracker())
    return pl.read_parquet(output / "predictions.parquet")


def test_its_own_data_gets_the_bundles_own_scores_in_evaluates_order(same_data, tiny_config, genre_data, fused):
    data = PreparedData(genre_data)
    rows = evaluation_rows(data.test, tiny_config.evaluate)
    np.testing.assert_array_equal(same_data["label"], rows.label)
    np.testing.assert_array_equal(same_data["timestamp"], rows.timestamp)
    np.testing.assert_array_equal(same_data["user_id"], data.users["user_id"].gather(rows.user - 1))
    np.testing.assert_array_equal(same_data["item_id"], data.items["item_id"].gather(rows.item - 1))
    expected = 1 / (1 + np.exp(-load_bundle(fused, "cpu").score(rows)))
    np.testing.assert_allclose(same_data["score"], expected, atol=1e-5)


def test_unseen_users_and_items_are_scored_and_change_no_other_row(
    champion, same_data, tiny_config, genre_data, tmp_path
):
    """A user and an item under ids that the champion has never seen, and fewer of the items that it has."""
    shutil.copytree(genre_data, tmp_path / "data")
    new = {"user_id": {1: 1001}, "item_id": {int(same_data["item_id"][-1]): 1002}}
    for file in (tmp_path / "data").glob("*.parquet"):
        rows = pl.read_parquet(file)
        named = [pl.col(name).replace(ids) for name, ids in new.items() if name in rows.columns]
        if "history" in rows.columns:
            named.append(pl.col("history").list.eval(pl.element().replace(new["item_id"])))
        rows.with_columns(named).write_parquet(file)
    score_champion(tiny_config, tmp_path / "data", str(champion), tmp_path / "scored", Tracker())
    found = pl.read_parquet(tmp_path / "scored" / "predictions.parquet")
    renamed = same_data.with_columns(pl.col(name).replace(ids) for name, ids in new.items())
    assert found.drop("score").equals(renamed.drop("score"))
    assert found["score"].is_between(0, 1).all()
    old = pl.Series(~(found["user_id"].is_in([1001]) | found["item_id"].is_in([1002])))
    assert 0 < old.sum() < len(old)
    before, after = same_data.filter(old), found.filter(old)
    # in a history, the renamed item is another item with the same title
    np.testing.assert_allclose(after["score"], before["score"], atol=1e-4)
    assert np.abs(found.filter(~old)["score"] - same_data.filter(~old)["score"]).max() > 1e-4


def test_without_a_champion_nothing_is_scored(tiny_config, genre_data, tmp_path):
    score_champion(tiny_config, genre_data, "", tmp_path / "scored", Tracker())
    assert list((tmp_path / "scored").iterdir()) == []


def test_a_champion_that_cannot_be_read_is_named_with_the_way_out(
    champion, tiny_config, genre_data, tmp_path, monkeypatch
):
    def incomplete(version: ModelVersion, folder: Path) -> Path:
        (download_bundle(version, folder) / "config.json").unlink()
        return folder

    monkeypatch.setattr("components.score_champion.step.download_bundle", incomplete)
    with pytest.raises(RegistryError, match=r"sella-rec version 1, cannot be scored: .*config\.json.*sella promote"):
        score_champion(tiny_config, genre_data, str(champion), tmp_path / "scored", Tracker())
    assert not (tmp_path / "scored").exists()


def test_a_model_of_other_making_is_refused(champion, tmp_path):
    class Other(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input: list[str]) -> list[str]:
            return model_input

    with mlflow.start_run():
        logged = mlflow.pyfunc.log_model(name="other", python_model=Other(), pip_requirements=[])
    mlflow.register_model(logged.model_uri, "other")
    with pytest.raises(RegistryError, match="holds no bundle"):
        download_bundle(ModelVersion("other", "1", ""), tmp_path / "bundle")
