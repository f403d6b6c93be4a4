"""`sella score` and `sella recommend`: asks a trained bundle."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from components.core.config import Config, ConfigError
from components.core.step import stay_offline_if_local
from pipeline.runs import LATEST

if TYPE_CHECKING:
    from components.core.bundle import Bundle


def read_pairs(path: Path) -> pl.DataFrame:
    """The columns user_id and item_id of a CSV file, as text.

    Raises:
        ConfigError: unreadable, or without these columns.
    """
    try:
        # as text: 007 is not 7 where ids are text, and numbers are found again by the bundle
        pairs = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{path}: cannot be read as CSV: {error}") from error
    missing = {"user_id", "item_id"} - set(pairs.columns)
    if missing:
        raise ConfigError(f"{path}: no column {' and '.join(sorted(missing))}; it has {', '.join(pairs.columns)}")
    return pairs.select("user_id", "item_id")


def one_users_pairs(user_id: str, item_ids: list[str]) -> pl.DataFrame:
    """The pairs of one user with some items."""
    return pl.DataFrame({"user_id": [user_id] * len(item_ids), "item_id": item_ids})


def score_pairs(bundle: Path, pairs: pl.DataFrame) -> pl.DataFrame:
    """Add P(like) as the column score, rows in their order.

    Raises:
        BundleError: not a bundle, or it does not know a user or an item.
        BackboneError: the backbone it names cannot be loaded.
    """
    model = _load(bundle)
    numbered = pairs.with_row_index("row")
    parts = [
        rows.with_columns(score=pl.Series(model.probabilities(user, rows["item_id"].to_list())))
        for (user,), rows in numbered.group_by("user_id", maintain_order=True)
    ]
    scored = pl.concat(parts) if parts else numbered.with_columns(score=pl.lit(None, pl.Float32))
    return scored.sort("row").drop("row")


def show_recommendations(bundle: Path, user_id: str, top: int, console: Console) -> None:
    """Print a user's best unseen items.

    Raises:
        As `score_pairs`.
    """
    model = _load(bundle)
    best = model.recommend(user_id, top, candidates=max(100, top))
    table = Table(title=f"For user {user_id}")
    for heading in ("", "P(like)", "item_id", "title"):
        table.add_column(heading, justify="left" if heading == "title" else "right")
    for place, row in enumerate(best.iter_rows(named=True), start=1):
        table.add_row(str(place), f"{row['score']:.3f}", str(row["item_id"]), row["title"])
    console.print(table)


def _load(folder: Path) -> Bundle:
    if not folder.is_dir():
        hint = ": no run has finished here yet; start one with `sella run`" if folder.is_relative_to(LATEST) else ""
        raise ConfigError(f"{folder}: no such folder{hint}")
    with suppress(OSError, ValidationError):
        # a folder that cannot be read is told of below
        stay_offline_if_local(Config.from_json((folder / "config.json").read_text()).backbone)
    from transformers.utils import logging

    from components.core.bundle import load_bundle

    # the scores are what is wanted on the terminal, not how the weights were loaded
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    return load_bundle(folder)
