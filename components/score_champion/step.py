"""score-champion: the model in use on the new test rows, since its recorded figures are of another window."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sella_rec.config import Config
from sella_rec.files import atomic_output
from sella_rec.tracking.registry import ModelVersion, RegistryError, download_bundle
from sella_rec.tracking.tracker import Tracker

if TYPE_CHECKING:
    from sella_rec.model.bundle import Bundle

log = logging.getLogger(__name__)


def score_champion(config: Config, dataset: Path, champion: str, output: Path, tracker: Tracker) -> None:
    """Score the rows that evaluate scores, those of users and items included that the champion has never seen.

    Args:
        config: sections evaluate (which rows), backbone (device).
        dataset: prepare-data's folder.
        champion: find-champion's result; if it is empty, so is the output folder.
        output: `predictions.parquet`: user_id, item_id, timestamp, label, score (P(like)), in evaluate's order.
        tracker: receives progress.

    Raises:
        RegistryError: the champion cannot be loaded.
    """
    version = ModelVersion.parse(champion)
    with atomic_output(output) as folder:
        folder.mkdir()
        if version is None:
            log.info("there is no champion to score")
        else:
            _predictions(config, dataset, version, tracker).write_parquet(folder / "predictions.parquet")


def _predictions(config: Config, dataset: Path, version: ModelVersion, tracker: Tracker) -> pl.DataFrame:
    from sella_rec.data.dataset import PreparedData
    from sella_rec.data.row_selection import evaluation_rows

    data = PreparedData(dataset)
    rows = evaluation_rows(data.test, config.evaluate)
    model, asked = _load(version, config.backbone.device).reindex(data, rows)
    logits = model.score(asked, progress=partial(tracker.progress, note="scoring the champion"))
    return pl.DataFrame(
        {
            "user_id": data.users["user_id"].gather(rows.user - 1),
            "item_id": data.items["item_id"].gather(rows.item - 1),
            "timestamp": rows.timestamp,
            "label": rows.label.astype(np.int8),
            "score": 1 / (1 + np.exp(-logits)),
        }
    )


def _load(version: ModelVersion, device: str) -> Bundle:
    from sella_rec.llm.backbone import BackboneError
    from sella_rec.model.bundle import BundleError, load_bundle

    try:
        with TemporaryDirectory() as folder:
            return load_bundle(download_bundle(version, Path(folder) / "bundle"), device)
    except (BackboneError, BundleError) as error:
        raise RegistryError(
            f"the champion, {version.label}, cannot be scored: {error}. Make another version champion with "
            "`sella promote VERSION`, or remove the alias champion in MLflow to start without one"
        ) from error
