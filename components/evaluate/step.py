"""Compares SeLLa-Rec with the other arms on the test split, which no training step reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from components.evaluate.examples import recommend_examples
from components.evaluate.report import Content, write_report
from components.evaluate.summary import ARMS, LATE_FUSION, flat_metrics, summarize
from sella_rec.collab.tables import CollabTables
from sella_rec.config import Config
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.data.row_selection import evaluation_rows
from sella_rec.files import atomic_output
from sella_rec.llm.scorer import probability
from sella_rec.model.bundle import Bundle, load_bundle
from sella_rec.model.late_fusion import VALID_LOGITS, LateFusion, fit_late_fusion, load_valid_logits
from sella_rec.tracking.tracker import Tracker

COLLAB_ARMS = ("mf", "lightgcn")
LLM_ARMS: tuple[Literal["text_only"], Literal["sella"]] = ("text_only", "sella")


def evaluate(
    config: Config,
    dataset: Path,
    collab: Path,
    adapter: Path,
    bundle: Path,
    curves: Mapping[str, Path],
    output: Path,
    tracker: Tracker,
    alignment: Path | None = None,
    seconds: Mapping[str, float] | None = None,
    run_config: Config | None = None,
) -> None:
    """Score the test rows with every arm, summarize, and write the report.

    Args:
        config: sections evaluate, collab (the fused model), backbone (device), seed.
        dataset: prepare-data's folder.
        collab: train-collab's folder, two arms.
        adapter: tune-llm's folder, for late fusion: the text-only LLM's logits on valid.
        bundle: fuse's folder, the other two: the LLM without stage 3, and SeLLa-Rec.
        curves: curves.json by step, for the report.
        output: `predictions.parquet` (arm, user_id, item_id, timestamp, label, score: probability, warm),
            `summary.json` (see `summarize`), `report.html`, `plots/`.
        tracker: receives every metric of every arm and slice, report, plots, progress.
        alignment: align-collab's alignment.parquet, for the report.
        seconds: time by step so far, for the report.
        run_config: the whole configuration of the run, for the report; none: `config` is that.

    Raises:
        ValueError: a model's scores are NaN.
        LateFusionError: the valid rows drawn for late fusion hold one class.
        BundleError: `bundle` cannot be read.
    """
    data = PreparedData(dataset)
    model = load_bundle(bundle, config.backbone.device)
    tables = {arm: CollabTables.load(collab / arm / "tables") for arm in COLLAB_ARMS}

    test = evaluation_rows(data.test, config.evaluate)
    logits, fusion = score_arms(config, data, test, tables, adapter, model, tracker)

    tracker.progress(0, 1, "bootstrap")
    summary = summarize(test, logits, config.evaluate.bootstrap_samples, config.seed)
    summary[LATE_FUSION]["weights"] = vars(fusion)
    show = partial(tracker.progress, note="example recommendations")
    examples = recommend_examples(model, data, tables, config.evaluate.examples, config.seed, show)

    read = {step: json.loads(path.read_text()) for step, path in curves.items()}
    points = None if alignment is None else pl.read_parquet(alignment)
    content = Content(run_config or config, data.report, test, logits, summary, read, points, seconds or {}, examples)
    with atomic_output(output) as folder:
        folder.mkdir()
        predictions(data, test, logits).write_parquet(folder / "predictions.parquet")
        (folder / "summary.json").write_text(json.dumps(summary, indent=2))
        write_report(content, folder)
    tracker.metrics(flat_metrics(summary))
    tracker.artifact(output / "report.html")
    tracker.artifact(output / "plots", "plots")


def score_arms(
    config: Config,
    data: PreparedData,
    test: Split,
    tables: Mapping[str, CollabTables],
    adapter: Path,
    model: Bundle,
    tracker: Tracker,
) -> tuple[dict[str, np.ndarray], LateFusion]:
    """Every arm's logits float32 [n] on `test`, and late fusion's weights, which are fitted on valid rows."""
    logits = {arm: table.score_split(test) for arm, table in tables.items()}
    for arm in LLM_ARMS:
        logits[arm] = model.score(test, arm, partial(tracker.progress, note=f"scoring {arm}"))
    fused = config.collab.fused_model
    valid, text_only = load_valid_logits(adapter / VALID_LOGITS, data, config.evaluate)
    fusion = fit_late_fusion(valid.label, text_only, tables[fused].score_split(valid))
    logits[LATE_FUSION] = fusion.score(logits["text_only"], logits[fused])
    return logits, fusion


def predictions(data: PreparedData, rows: Split, logits: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """Every row once per arm, with the users' own ids: arm, user_id, item_id, timestamp, label, score, warm."""
    ids = pl.DataFrame(
        {
            "user_id": data.users["user_id"].gather(rows.user - 1),
            "item_id": data.items["item_id"].gather(rows.item - 1),
            "timestamp": rows.timestamp,
            "label": rows.label.astype(np.int8),
            "warm": rows.warm,
        }
    )
    frames = [ids.with_columns(arm=pl.lit(arm), score=pl.Series(probability(logits[arm]))) for arm in ARMS]
    return pl.concat(frames).select("arm", "user_id", "item_id", "timestamp", "label", "score", "warm")
