"""evaluate end to end on made-up ratings, with a bundle that knows the planted taste up to some noise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from components.evaluate.step import evaluate
from sella_rec.collab.tables import CollabTables
from sella_rec.config import Config
from sella_rec.data.dataset import PreparedData
from sella_rec.data.row_selection import evaluation_rows
from sella_rec.llm.scorer import probability
from sella_rec.tracking.tracker import Tracker
from tests.components.evaluate.conftest import tuned

ARMS = {"mf", "lightgcn", "text_only", "sella"}


class RecordingTracker(Tracker):
    def __init__(self) -> None:
        self.logged: dict[str, float] = {}
        self.artifacts: list[str] = []
        self.notes: set[str] = set()

    def metrics(self, values: dict[str, float], step: int | None = None) -> None:
        self.logged |= values

    def artifact(self, path: Path, folder: str | None = None) -> None:
        assert path.exists()
        self.artifacts.append(path.name)

    def progress(self, done: float, total: float, note: str = "") -> None:
        self.notes.add(note)


def config(**settings: Any) -> Config:
    return Config.model_validate({"evaluate": {"bootstrap_samples": 100, "examples": 4, **settings}})


def run_evaluate(world, output: Path, **settings: Any) -> tuple[Path, dict[str, Any], RecordingTracker]:
    """Output folder, summary and tracker of a run with these settings of section evaluate."""
    adapter = tuned(world, config(**settings).evaluate, output.parent / "adapter")
    tracker, inputs = RecordingTracker(), (world.dataset, world.collab, adapter, Path("unused"), world.curves)
    more = {"alignment": world.alignment, "seconds": {"prepare-data": 2.0, "tune-llm": 400.0}}
    evaluate(config(**settings), *inputs, output, tracker, **more)
    return output, json.loads((output / "summary.json").read_text()), tracker


@pytest.fixture
def run(world, bundle, tmp_path):
    return lambda **settings: run_evaluate(world, tmp_path / "evaluation", **settings)


@pytest.fixture(scope="module")
def usual(world, make_bundle, tmp_path_factory):
    """One run for the tests that only look at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.evaluate.step.load_bundle", lambda folder, device: make_bundle())
        return run_evaluate(world, tmp_path_factory.mktemp("usual") / "evaluation")


def test_summary_has_the_contract_and_agrees_with_the_predictions(usual, world):
    output, summary, _ = usual
    assert set(summary["arms"]) == ARMS
    assert set(summary["paired"]) == {f"sella-vs-{arm}" for arm in ARMS - {"sella"}}
    frame = pl.read_parquet(output / "predictions.parquet")
    assert frame.columns == ["arm", "user_id", "item_id", "timestamp", "label", "score", "warm"]
    assert frame.group_by("arm").len()["len"].to_list() == [len(PreparedData(world.dataset).test)] * 4
    for arm in ARMS:
        for part, rows in (("all", pl.lit(True)), ("warm", pl.col("warm")), ("cold", ~pl.col("warm"))):
            values, of_part = summary["arms"][arm][part], frame.filter((pl.col("arm") == arm) & rows)
            assert set(values) == {"auc", "uauc", "ndcg", "map", "rows", "users", "uauc_ci", "auc_ci"}
            assert values["rows"] == of_part.height
            assert values["auc"] == pytest.approx(roc_auc_score(of_part["label"], of_part["score"]), abs=1e-4)
            assert values["uauc_ci"][0] <= values["uauc"] <= values["uauc_ci"][1]
    own, other = summary["arms"]["sella"]["all"], summary["arms"]["mf"]["all"]
    assert summary["paired"]["sella-vs-mf"]["uauc_diff"] == pytest.approx(own["uauc"] - other["uauc"])


def test_predictions_keep_the_users_own_ids_and_probabilities(usual, world, bundle):
    output, _, _ = usual
    frame = pl.read_parquet(output / "predictions.parquet").filter(pl.col("arm") == "sella")
    test = pl.read_parquet(world.dataset / "test.parquet")
    for column in ("user_id", "item_id", "timestamp", "label", "warm"):
        assert frame[column].to_list() == test[column].to_list()
    split = evaluation_rows(PreparedData(world.dataset).test, config().evaluate)
    np.testing.assert_allclose(frame["score"], 1 / (1 + np.exp(-bundle.score(split).astype(float))), rtol=1e-5)


def test_planted_order_of_the_arms_is_found(usual):
    _, summary, _ = usual
    paired = summary["paired"]["sella-vs-text_only"]
    assert paired["ci"][0] > 0
    assert paired["auc_ci"][0] > 0


def test_all_arms_see_the_same_limited_rows_with_one_history(run, bundle):
    output, summary, _ = run(max_rows_per_user=3)
    frame = pl.read_parquet(output / "predictions.parquet")
    assert frame.group_by("arm", "user_id").len()["len"].max() == 3
    assert {summary["arms"][arm]["all"]["rows"] for arm in ARMS} == {frame.height // 4}
    asked = next(split for arm, split in bundle.asked if arm == "sella")
    for user in np.unique(asked.user):
        assert len(np.unique(asked.history[asked.user == user], axis=0)) == 1


def test_late_fusion_is_fitted_on_valid_rows_only(usual, world, bundle):
    _, summary, _ = usual
    data, tables = PreparedData(world.dataset), CollabTables.load(world.collab / config().collab.fused_model / "tables")
    valid, test = (evaluation_rows(split, config().evaluate) for split in (data.valid, data.test))
    features = [np.stack([bundle.score(s, "text_only"), tables.score_split(s)], axis=1) for s in (valid, test)]
    oracle = LogisticRegression(C=1e9).fit(features[0], valid.label)
    weights = summary["late_fusion"]["weights"]
    found = [weights["llm"], weights["collab"], weights["intercept"]]
    assert found == pytest.approx([*oracle.coef_[0], oracle.intercept_[0]], abs=1e-3)
    expected = roc_auc_score(test.label, oracle.decision_function(features[1]))
    assert summary["late_fusion"]["auc"] == pytest.approx(expected, abs=1e-3)
    assert set(summary["late_fusion"]["paired"]) == {"uauc_diff", "ci", "auc_diff", "auc_ci"}


def test_everything_is_tracked(usual):
    _, summary, tracker = usual
    for arm in ARMS:
        for part in ("all", "warm", "cold"):
            for metric in ("auc", "uauc", "ndcg", "map"):
                assert tracker.logged[f"{arm}_{part}_{metric}"] == summary["arms"][arm][part][metric]
    assert tracker.artifacts == ["report.html", "plots"]
    assert "scoring sella" in tracker.notes


def test_a_slice_that_cannot_be_judged_is_none_and_still_reported(run, world, bundle, monkeypatch):
    load = PreparedData._load
    everything_warm = lambda self, name: replace(split := load(self, name), warm=np.ones(len(split), dtype=bool))  # noqa: E731
    monkeypatch.setattr(PreparedData, "_load", everything_warm)
    output, summary, tracker = run()
    cold = summary["arms"]["sella"]["cold"]
    assert (cold["auc"], cold["uauc_ci"], cold["rows"]) == (None, None, 0)
    assert "sella_cold_auc" not in tracker.logged
    assert (output / "report.html").exists()


def test_broken_scores_leave_no_output(run, bundle, monkeypatch, tmp_path):
    monkeypatch.setattr(bundle, "score", lambda split, *_: np.full(len(split), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="NaN"):
        run()
    assert not (tmp_path / "evaluation").exists()


def test_probability_does_not_overflow():
    assert probability(np.array([-200.0, 0.0, 200.0], dtype=np.float32)).tolist() == [0.0, 0.5, 1.0]
