"""recommend: one shard of a bundle's users, each with the best of the catalogue that they have not seen."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from components.recommend.output import Output
from components.recommend.plan import BatchPlan
from sella_rec.config import Config
from sella_rec.llm.packing import Progress
from sella_rec.tracking.tracker import Tracker

if TYPE_CHECKING:
    from sella_rec.model.ranker import Ranker

# Users ranked together: their rows fill the LLM's batches, and more would only take memory.
_USERS_A_PASS = 32
SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("score", pa.float32()),
    ]
)
log = logging.getLogger(__name__)


def recommend(config: Config, bundle: Path, output: str, plan: BatchPlan, shard: int, tracker: Tracker) -> int:
    """Write a shard's part, unless it is there: a retried shard does its work once.

    Args:
        config: section backbone (device).
        bundle: fuse's folder, of any run.
        output: folder or fsspec URI; receives `shard=<number>/part.parquet`: user_id, rank (1 is best), item_id,
            title, score (P(like)).
        shard: its number, from 0.
        tracker: receives progress in users.

    Returns:
        How many users the shard has.

    Raises:
        BundleError: `bundle` cannot be read.
        BackboneError: the backbone that it names cannot be loaded.
        OutputError: the folder cannot be used, or holds another batch.
    """
    users, folder = users_of(bundle, shard, plan.shards), Output.at(output)
    if folder.holds(shard, plan):
        log.info("shard %d is already complete", shard)
        return len(users)
    from sella_rec.model.bundle import load_bundle
    from sella_rec.model.ranker import Ranker

    ranker = Ranker(load_bundle(bundle, config.backbone.device))
    folder.write_part(shard, plan, rank_users(ranker, users, plan, lambda d, n: tracker.progress(d, n, "ranking")))
    return len(users)


def users_of(bundle: Path, shard: int, shards: int) -> list[str]:
    """The ids of a shard's users: every `shards`-th, so that shards are alike whatever the users' order."""
    ids = pl.read_parquet(bundle / "users.parquet", columns=["user_id"])["user_id"]
    return ids.gather_every(shards, shard).to_list()


def rank_users(ranker: Ranker, users: list[str], plan: BatchPlan, progress: Progress | None = None) -> pa.Table:
    """Rows of `SCHEMA`, users in their order, best first; none for a user who has seen everything."""
    from sella_rec.model.ranker import Request

    tables = [SCHEMA.empty_table()]
    for start in range(0, len(users), _USERS_A_PASS):
        asked = users[start : start + _USERS_A_PASS]
        rankings = ranker.rank([Request(user) for user in asked], plan.top_n, plan.retrieve)
        for user, ranking in zip(asked, rankings, strict=True):
            n = len(ranking.titles)
            columns = [[user] * n, ranking.ranks, ranking.item_ids, ranking.titles, ranking.scores]
            tables.append(pa.table(columns, names=SCHEMA.names).cast(SCHEMA))
        if progress is not None:
            progress(start + len(asked), len(users))
    return pa.concat_tables(tables).combine_chunks()
