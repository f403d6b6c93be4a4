"""prepare-data: from a user's interactions and items to the folder that every later step reads."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import polars as pl

from components.prepare_data.details import DETAILS_FILE, make_details, rows_per
from components.prepare_data.drops import drops_told
from components.prepare_data.page import PAGE, make_page
from components.prepare_data.report import DROPPED, Report, make_report
from components.prepare_data.split import split_rows
from components.prepare_data.validate import load
from sella_rec.config import Config
from sella_rec.data.dataset import SPLITS
from sella_rec.data.training_reference import write_reference
from sella_rec.files import atomic_output
from sella_rec.tracking.tracker import Tracker

logger = logging.getLogger(__name__)

ROW_COLUMNS = ("user_id", "item_id", "timestamp", "label", "history", "warm")


def prepare_data(config: Config, output: Path, tracker: Tracker) -> Report:
    """Read, validate and split the data of `config.data` into the folder `output` (see `sella_rec.data.dataset`).

    Returns:
        The data report, which is also `output/report.json`; docs/your-data.md describes its keys. Beside it are
        `report_details.json` (see `details`) and both as a page, `report.html`.

    Raises:
        DataError: input that violates the contract; `output` is unchanged.
    """
    clean = load(config.data)
    with drops_told(clean.counts):
        rows = split_rows(clean.rows, config.data, clean.ratings if clean.counts["target"] == "rating" else None)
    per_user, per_item = rows_per(rows, "user_id"), rows_per(rows, "item_id")
    report = make_report(config.data, dict(clean.counts), rows, clean.items, per_user.height, per_item.height)
    details = make_details(config.data, rows, clean.items, per_user, per_item, clean.ratings, clean.changes)
    with atomic_output(output) as folder:
        folder.mkdir()
        _write(folder, rows, clean.items, report)
        # beside the flat report, whose values all become metrics
        (folder / DETAILS_FILE).write_text(json.dumps(details, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / PAGE).write_text(make_page(config.data, report, details), encoding="utf-8")
    counts = report["rows"], report["users"], report["items_kept"]
    logger.info("prepared %d rows of %d users and %d items in %s", *counts, output)
    for rule in DROPPED:
        if report[rule]:
            logger.warning("dropped %s: %s", rule, report[rule])
    tracker.params({key: value for key, value in report.items() if isinstance(value, str)})
    tracker.metrics({key: float(value) for key, value in report.items() if not isinstance(value, str)})
    for name in ("report.json", DETAILS_FILE, PAGE):
        tracker.artifact(output / name)
    return report


def _write(folder: Path, rows: pl.DataFrame, items: pl.DataFrame, report: Report) -> None:
    for name in SPLITS:
        rows.filter(pl.col("split") == name).select(ROW_COLUMNS).write_parquet(folder / f"{name}.parquet")
    in_train = pl.col("split") == "train"
    users = rows.group_by("user_id").agg(in_train=in_train.any()).sort("user_id")
    users.write_parquet(folder / "users.parquet")
    trained = rows.select("item_id", "split").filter(in_train).select("item_id").unique().with_columns(in_train=True)
    catalogue = items.join(trained, on="item_id", how="left").with_columns(pl.col("in_train").fill_null(False))
    catalogue.sort("item_id").write_parquet(folder / "items.parquet")
    write_reference(folder, rows, items)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
