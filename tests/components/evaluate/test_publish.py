"""What evaluate hands to the pipeline's user interface."""

import json

import numpy as np
import polars as pl
import pytest
from kfp.dsl import ClassificationMetrics, Metrics
from sklearn.metrics import auc, roc_auc_score

from components.evaluate.publish import find_curves, publish


@pytest.fixture
def evaluation(tmp_path):
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, 3000)
    score = 1 / (1 + np.exp(-(label + draw.normal(size=3000))))
    frames = [
        pl.DataFrame({"arm": arm, "label": label, "score": s}) for arm, s in (("mf", 1 - score), ("sella", score))
    ]
    folder = tmp_path / "evaluation"
    folder.mkdir()
    pl.concat(frames).write_parquet(folder / "predictions.parquet")
    values = {"auc": 0.75, "uauc": 0.5, "ndcg": None, "map": 0.25, "rows": 3000}
    (folder / "summary.json").write_text(json.dumps({"arms": {arm: {"all": values} for arm in ("mf", "sella")}}))
    (folder / "report.html").write_text("<p>report</p>")
    return folder


def test_metrics_curve_and_page(evaluation, tmp_path):
    metrics = Metrics(uri=str(tmp_path / "artifacts" / "metrics"))
    roc = ClassificationMetrics(uri=str(tmp_path / "artifacts" / "roc"))
    publish(evaluation, metrics, roc, str(tmp_path / "new" / "report.html"))
    assert metrics.metadata == {
        f"{a}_{m}": v for a in ("mf", "sella") for m, v in (("auc", 0.75), ("uauc", 0.5), ("map", 0.25))
    }
    assert json.loads((tmp_path / "artifacts" / "metrics").read_text()) == metrics.metadata
    assert json.loads((tmp_path / "artifacts" / "roc").read_text()) == roc.metadata
    points = roc.metadata["confidenceMetrics"]
    assert len(points) <= 200
    assert json.loads(json.dumps(points, allow_nan=False)) == points
    fpr, recall, threshold = (
        [point[name] for point in points] for name in ("falsePositiveRate", "recall", "confidenceThreshold")
    )
    rows = pl.read_parquet(evaluation / "predictions.parquet").filter(pl.col("arm") == "sella")
    assert auc(fpr, recall) == pytest.approx(roc_auc_score(rows["label"], rows["score"]), abs=2e-3)
    assert (fpr[0], recall[0], fpr[-1], recall[-1]) == (0, 0, 1, 1)
    assert threshold == sorted(threshold, reverse=True)
    assert (tmp_path / "new" / "report.html").read_text() == "<p>report</p>"


def test_curves_are_found_by_step(tmp_path):
    inputs = {name: tmp_path / name for name in ("dataset", "collab", "adapter", "aligned", "bundle")}
    assert find_curves(inputs) == {
        "train-collab": tmp_path / "collab/curves.json",
        "tune-llm": tmp_path / "adapter/curves.json",
        "align-collab": tmp_path / "aligned/curves.json",
        "fuse": tmp_path / "bundle/curves.json",
    }
