"""Shards of a real bundle: whose recommendations they hold, and what becomes of a shard that is tried again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from components.recommend.champion import batch_folder, load_champion
from components.recommend.output import Output, OutputError, part_name
from components.recommend.step import SCHEMA, rank_users, recommend, users_of
from components.recommend.summarize import summarize
from sella_rec.model import bundle as bundle_module
from sella_rec.model.ranker import Request
from sella_rec.tracking.registry import RegistryError
from sella_rec.tracking.tracker import Tracker


@pytest.fixture(scope="module")
def written(fused, recommend_config, plan, tmp_path_factory) -> Path:
    """All shards, and the summary."""
    folder = tmp_path_factory.mktemp("written")
    users = [recommend(recommend_config, fused, str(folder), plan, k, Tracker()) for k in range(plan.shards)]
    assert users == [14, 13, 13]
    summarize(fused, str(folder), plan, Tracker())
    return folder


def rows(folder: Path, shard: int) -> pl.DataFrame:
    return pl.from_arrow(pq.read_table(folder / part_name(shard), partitioning=None))


def test_every_user_is_in_one_shard(fused, plan):
    users = [user for shard in range(plan.shards) for user in users_of(fused, shard, plan.shards)]
    assert sorted(users) == sorted(pl.read_parquet(fused / "users.parquet")["user_id"])
    # more shards than users
    assert users_of(fused, 40, 41) == []


def test_a_part_is_what_the_ranker_says_of_each_user(written, ranker, fused, plan):
    found = rows(written, 1)
    assert found.columns == SCHEMA.names
    for user in users_of(fused, 1, plan.shards)[::5]:
        (alone,) = ranker.rank([Request(user)], plan.top_n, plan.retrieve)
        mine = found.filter(pl.col("user_id") == user)
        assert mine["item_id"].to_list() == alone.item_ids
        assert mine["title"].to_list() == alone.titles
        assert mine["rank"].to_list() == [1, 2, 3, 4]
        np.testing.assert_allclose(mine["score"], alone.scores, atol=1e-5)


def test_a_complete_shard_is_not_done_again_and_a_lost_one_comes_back_byte_for_byte(
    written, fused, recommend_config, plan, tmp_path, monkeypatch
):
    content = (written / part_name(2)).read_bytes()
    Output.at(str(tmp_path)).write(part_name(2), content[:-9])
    assert recommend(recommend_config, fused, str(tmp_path), plan, 2, Tracker()) == 13
    assert (tmp_path / part_name(2)).read_bytes() == content

    def refuse(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(bundle_module, "load_bundle", refuse)
    assert recommend(recommend_config, fused, str(tmp_path), plan, 2, Tracker()) == 13
    with pytest.raises(AssertionError, match="was loaded"):
        recommend(recommend_config, fused, str(tmp_path), plan, 1, Tracker())


def test_a_shard_without_users_is_empty(ranker, plan):
    assert rank_users(ranker, [], plan).equals(SCHEMA.empty_table())


def test_the_manifest_vouches_for_what_is_there(written, plan):
    manifest = json.loads((written / "_manifest.json").read_text())
    assert manifest["plan"] == vars(plan)
    assert list(manifest["files"]) == [part_name(shard) for shard in range(plan.shards)]
    for shard, (name, said) in enumerate(manifest["files"].items()):
        assert said["sha256"] == hashlib.sha256((written / name).read_bytes()).hexdigest()
        assert said["rows"] == rows(written, shard).height


def test_the_summary_is_of_all_rows(written, fused, plan):
    found = json.loads((written / "_summary.json").read_text())
    everything = pl.concat([rows(written, shard) for shard in range(plan.shards)])
    items, users = (pl.read_parquet(fused / f"{kind}s.parquet") for kind in ("item", "user"))
    seen = users.explode("seen").group_by(item_id="seen").agg(popularity=pl.col("user_id").n_unique())
    joined = everything.join(seen, on="item_id", how="left").join(items, on="item_id")
    assert found["recommendations"] == everything.height
    assert found["users"] == 40
    assert found["catalogue_coverage"] == everything["item_id"].n_unique() / items.height
    assert found["cold_share"] == pytest.approx((~joined["in_train"]).mean())
    per_user = joined.group_by("user_id").agg(pl.col("popularity").fill_null(0).mean())
    assert found["average_popularity"] == pytest.approx(per_user["popularity"].mean())
    own = users.explode("seen").join(seen, left_on="seen", right_on="item_id").group_by("user_id")
    mean = own.agg(pl.col("popularity").mean())["popularity"].mean()
    assert found["popularity_lift"] == pytest.approx(per_user["popularity"].mean() / mean - 1)


def test_a_batch_with_a_shard_missing_is_not_marked_as_whole(written, fused, plan, tmp_path):
    Output.at(str(tmp_path)).write(part_name(1), (written / part_name(1)).read_bytes())
    with pytest.raises(OutputError, match="shards 0, 2 of 3 are missing"):
        summarize(fused, str(tmp_path), plan, Tracker())
    assert not (tmp_path / "_manifest.json").exists()


def test_another_models_folder_is_refused_before_anything_is_loaded(written, fused, recommend_config, plan):
    with pytest.raises(OutputError, match="bundle"):
        recommend(recommend_config, fused, str(written), replace(plan, bundle="another"), 0, Tracker())


def test_without_a_registry_there_is_no_champion(recommend_config, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(RegistryError, match="MLFLOW_TRACKING_URI is not set"):
        load_champion(recommend_config, "code", "out", 2, tmp_path / "bundle", Tracker())


def test_a_batch_has_a_folder_of_its_own():
    assert batch_folder("s3://bucket/all/", "20261124-0300") == "s3://bucket/all/batch=20261124-0300"
    with pytest.raises(OutputError, match="output is empty"):
        batch_folder("", "now")
