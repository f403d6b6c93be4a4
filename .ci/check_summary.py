"""Fails unless a run's summary.json is complete and plausible: python check_summary.py SUMMARY."""

import json
import sys
from pathlib import Path

from pipeline.steps import STEPS

ARMS = {"mf", "lightgcn", "text_only", "sella"}

summary = json.loads(Path(sys.argv[1]).read_text())
assert set(summary["arms"]) == ARMS, summary["arms"].keys()
for arm, slices in summary["arms"].items():
    assert set(slices) == {"all", "warm", "cold"}, arm
    assert slices["all"]["rows"] > 1000, f"{arm}: {slices['all']['rows']} rows"
    low, high = slices["all"]["uauc_ci"]
    assert 0 <= low <= slices["all"]["uauc"] <= high <= 1, arm
    for measure in ("auc", "uauc", "ndcg", "map"):
        assert 0 <= slices["all"][measure] <= 1, f"{arm}: {measure}"
# trained on real ratings in seconds, far above chance; SeLLa-Rec carries the same knowledge
for arm in ("mf", "lightgcn", "sella"):
    assert summary["arms"][arm]["all"]["auc"] > 0.7, f"{arm}: {summary['arms'][arm]['all']['auc']}"
assert set(summary["paired"]) == {f"sella-vs-{arm}" for arm in ARMS - {"sella"}}
assert summary["paired"]["sella-vs-text_only"]["uauc_diff"] > 0
assert set(summary["steps"]) == set(STEPS), summary["steps"].keys()
assert summary["peak_rss_mb"] < 6144, summary["peak_rss_mb"]
assert summary["model"]["name"] == "sella-rec"
assert summary["model"]["version"]
assert summary["mlflow"]["run_id"]
assert summary["decision"]["reason"]
print(f"{sys.argv[1]}: complete")
