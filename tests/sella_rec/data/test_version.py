from __future__ import annotations

import os

import pytest

from sella_rec.config import DataConfig
from sella_rec.data.errors import DataError
from sella_rec.data.version import data_version


def data(interactions: object, items: object = "embedded:movielens", **more: object) -> DataConfig:
    return DataConfig.model_validate({"interactions": str(interactions), "items": str(items), **more})


def test_data_version_follows_the_files(tmp_path):
    ratings, items = tmp_path / "ratings.csv", tmp_path / "items.csv"
    ratings.write_text("a")
    items.write_text("b")
    first = data_version(data(ratings, items))
    assert data_version(data(ratings, items)) == first
    os.utime(ratings, (1, 1))
    touched = data_version(data(ratings, items))
    assert touched != first
    assert data_version(data(items, ratings)) != touched


def test_data_version_of_a_folder_follows_what_is_in_it(tmp_path):
    (tmp_path / "part-0.csv").write_text("a")
    first = data_version(data(tmp_path))
    (tmp_path / "part-1.csv").write_text("b")
    assert data_version(data(tmp_path)) != first


def test_data_version_of_the_packaged_data_needs_no_file():
    assert data_version(DataConfig()) == data_version(DataConfig())


def test_data_version_of_a_named_data_set_follows_its_source_and_needs_no_download(tmp_path):
    official = data_version(data("movielens-1m", "movielens-1m"))
    for name in ("ratings.dat", "movies.dat"):
        (tmp_path / name).write_text("a")
    mine = data("movielens-1m", "movielens-1m", source=str(tmp_path))
    first = data_version(mine)
    os.utime(tmp_path / "ratings.dat", (1, 1))
    assert len({official, first, data_version(mine)}) == 3


def test_missing_data_is_told_of(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        data_version(data(tmp_path / "nowhere.csv"))
    with pytest.raises(DataError, match=r"ratings\.dat: no such file"):
        data_version(data("movielens-1m", "movielens-1m", source=str(tmp_path)))
