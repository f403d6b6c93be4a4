"""`sella score` and `sella recommend`: scores and ranks with a trained bundle."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from pipeline.local.run_folder import LATEST
from sella_rec.config import Config, ConfigError
from sella_rec.runtime.step import stay_offline_if_local

if TYPE_CHECKING:
    from sella_rec.model.ranker import Ranker


# the header of a file of scores
SCORES_BEGIN = "user_id,item_id,score\n"


def read_pairs(path: Path) -> pl.DataFrame:
    """The columns user_id and item_id of a CSV file, as text.

    Raises:
        ConfigError: unreadable, or without these columns.
    """
    try:
        # as text: 007 is not 7 if ids are text, and the bundle's ids are text too
        pairs = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{path}: cannot be read as CSV: {error}") from error
    missing = {"user_id", "item_id"} - set(pairs.columns)
    if missing:
        raise ConfigError(
            f"{path}: no column {' and '.join(sorted(missing))}; its columns are {', '.join(pairs.columns)}"
        )
    return pairs.select("user_id", "item_id")


def one_users_pairs(user_id: str, item_ids: list[str]) -> pl.DataFrame:
    """The pairs of one user with some items."""
    return pl.DataFrame({"user_id": [user_id] * len(item_ids), "item_id": item_ids})


def score_pairs(bundle: Path, pairs: pl.DataFrame) -> pl.DataFrame:
    """Add P(like) as the column score, rows in their order.

    Raises:
        BundleError: not a bundle.
        RequestError: the bundle does not know a user or an item_id.
        BackboneError: the backbone it names cannot be loaded.
    """
    from sella_rec.model.ranker import Request

    ranker, numbered = load_ranker(bundle), pairs.with_row_index("row")
    asked = numbered.group_by("user_id", maintain_order=True).agg("item_id", "row")
    for user_id in asked["user_id"]:
        _check_user(ranker, user_id)
    requests = [Request(user_id, candidates=tuple(items)) for user_id, items, _ in asked.iter_rows()]
    rankings = ranker.rank(requests)
    scores = pl.Series("score", [score for ranking in rankings for score in ranking.scores], pl.Float32)
    return asked.explode("item_id", "row").with_columns(scores).sort("row").drop("row")


def show_recommendations(
    bundle: Path, user_id: str | None, history: Sequence[str], top: int, retrieve: int, console: Console
) -> None:
    """Print the best unseen items for a user, or for a new user who liked `history` (ids or titles).

    Raises:
        As `score_pairs`.
    """
    from sella_rec.model.ranker import Request

    ranker = load_ranker(bundle)
    if user_id is not None and not history:
        _check_user(ranker, user_id)
    (best,) = ranker.rank([Request(user_id, tuple(history) or None)], top, retrieve)
    table = Table(title="For these likes" if user_id is None else f"For user {user_id}")
    for heading in ("", "P(like)", "item_id", "title"):
        table.add_column(heading, justify="left" if heading == "title" else "right")
    for place, (item_id, title, score) in enumerate(zip(best.item_ids, best.titles, best.scores, strict=True), 1):
        table.add_row(str(place), f"{score:.3f}", item_id, title)
    console.print(table)


def _check_user(ranker: Ranker, user_id: str) -> None:
    from sella_rec.model.ranker import RequestError

    if not ranker.knows(user_id):
        known = ranker.bundle.users["user_id"]
        raise RequestError(
            f"user_id {user_id!r} is not known to this model ({len(known)} are, such as {known[0]!r}); "
            "for a new user, give liked titles: sella recommend --history TITLE"
        )


def find_bundle(folder: Path) -> None:
    """Check that a bundle is there, and stay offline if its backbone is on disk.

    Raises:
        ConfigError: no such folder.
    """
    if not folder.is_dir():
        hint = ": no run has finished here yet; start one with `sella run`" if folder.is_relative_to(LATEST) else ""
        raise ConfigError(f"{folder}: no such folder{hint}")
    with suppress(OSError, ValidationError):
        # a folder that cannot be read is reported when it is loaded
        stay_offline_if_local(Config.from_json((folder / "config.json").read_text()).backbone)


def load_ranker(folder: Path) -> Ranker:
    """Load a bundle for ranking.

    Raises:
        ConfigError: no such folder.
        BundleError: not a bundle.
        BackboneError: the backbone it names cannot be loaded.
    """
    find_bundle(folder)
    from transformers.utils import logging

    from sella_rec.model.bundle import load_bundle
    from sella_rec.model.ranker import Ranker

    # only scores belong on the terminal, not the loading of weights
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    return Ranker(load_bundle(folder))
