"""summarize: all shards together, once the last one is written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from safetensors.numpy import load_file

from components.recommend.measures import Summary
from components.recommend.output import MANIFEST, SUMMARY, Output, OutputError, part_name
from components.recommend.plan import BatchPlan
from sella_rec.tracking.tracker import Tracker


def summarize(bundle: Path, output: str, plan: BatchPlan, tracker: Tracker) -> dict[str, float]:
    """Measure the batch, and write `_summary.json` and, last, `_manifest.json` (plan, rows, SHA-256 of each part).

    Args:
        bundle: the folder that the shards read.
        output: the folder that they wrote to.
        tracker: receives the measures, and progress in shards.

    Returns:
        See `Summary.measures`.

    Raises:
        OutputError: a shard is missing, or the folder cannot be used.
    """
    folder = Output.at(output)
    missing = [shard for shard in range(plan.shards) if not folder.holds(shard, plan)]
    if missing:
        raise OutputError(
            f"{output}: shards {', '.join(map(str, missing))} of {plan.shards} are missing: run them again"
        )
    items = pl.read_parquet(bundle / "items.parquet").with_row_index("row")
    users = _with_rows(pl.read_parquet(bundle / "users.parquet", columns=["user_id", "seen"]), items)
    summary, files = _empty_summary(bundle, items, users), {}
    for shard in range(plan.shards):
        content, table = folder.read_part(shard, plan)
        files[part_name(shard)] = {"rows": table.num_rows, "sha256": hashlib.sha256(content).hexdigest()}
        for recommended, rated in _lists(table, items, users.gather_every(plan.shards, shard)):
            summary.add(recommended, rated)
        tracker.progress(shard + 1, plan.shards, "summarizing")
    measures = summary.measures()
    folder.write(SUMMARY, json.dumps(measures, indent=2).encode())
    folder.write(MANIFEST, json.dumps({"plan": asdict(plan), "files": files}, indent=2).encode())
    tracker.metrics(measures)
    return measures


def _with_rows(users: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """user_id and the rows of the items that each has rated."""
    seen = users.explode("seen", empty_as_null=False).rename({"seen": "item_id"})
    rows = seen.join(items.select("item_id", "row"), on="item_id").group_by("user_id").agg(rated="row")
    return users.select("user_id").join(rows, on="user_id", how="left", maintain_order="left")


def _empty_summary(bundle: Path, items: pl.DataFrame, users: pl.DataFrame) -> Summary:
    rated = users["rated"].drop_nulls().explode().to_numpy()
    # the first row stands for no item
    semantics = load_file(bundle / "soft_tokens.safetensors")["semantics"][1:]
    return Summary(np.bincount(rated, minlength=items.height), items["in_train"].to_numpy(), semantics)


def _lists(table: pa.Table, items: pl.DataFrame, users: pl.DataFrame) -> list[tuple[list[int], list[int]]]:
    """For each user of a shard the rows of the items recommended and of those rated."""
    found = pl.DataFrame(pl.from_arrow(table.select(["user_id", "item_id"])))
    rows = found.join(items.select("item_id", "row"), on="item_id", maintain_order="left")
    per_user = rows.group_by("user_id").agg(recommended="row")
    joined = users.join(per_user, on="user_id", how="left", maintain_order="left")
    return [
        (recommended or [], rated or []) for recommended, rated in joined.select("recommended", "rated").iter_rows()
    ]
