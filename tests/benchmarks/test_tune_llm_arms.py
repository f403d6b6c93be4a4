"""The search of the LLM arms' settings: the same trials for each arm, none of them lost."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest

from benchmarks import tune_llm_arms


@pytest.mark.slow
def test_a_search_gives_each_arm_its_trials_and_keeps_them(command: list[str], steps_done: list[str]) -> None:
    asked = [*command[:2], "--arms", "text-only", "collm-lightgcn", "--trials", "2", "--labels", "40"]
    asked += ["--out", "search", *command[command.index("--set") :]]
    tune_llm_arms.main(asked)
    assert steps_done.count("tune-llm") == 3  # two trials, and the one that stage 3 builds on
    assert steps_done.count("fuse") == 2
    # what was drawn is what was trained with, also where the arm has a best rate of its own
    trials = mlflow.search_runs(
        experiment_names=["tune-llm-arms"], filter_string="params.gain != ''", output_format="list"
    )
    bundles = [json.loads(path.read_text())["fuse"] for path in Path("search").glob("stages/fuse-*/output/config.json")]
    drawn = sorted(float(trial.data.params["learning_rate"]) for trial in trials)
    assert drawn == sorted(fuse["learning_rate"] for fuse in bundles)
    assert len(set(drawn)) == 2
    assert dict(tune_llm_arms.ARMS["collm-lightgcn"].fuse)["learning_rate"] in drawn  # the first is the arm as it is
    steps_done.clear()
    tune_llm_arms.main(asked)
    assert steps_done == []
