"""The papers' table over tiny data: its figures, what is done again and what is not, and its statistics by hand."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks._report import commit, machine
from benchmarks.paper import run as paper
from benchmarks.paper import stages as paper_stages
from benchmarks.paper.arms import ARMS
from benchmarks.paper.rows import slice_masks, stages_of
from benchmarks.paper.scores import read_logits
from benchmarks.paper.stages import Stages
from benchmarks.paper.table import holm, two_sided, write_table
from pipeline.packaged import PACKAGED
from sella_rec.config import Config, TuneConfig, load_config
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.data.row_selection import evaluation_rows
from sella_rec.model.bundle import load_bundle

ASKED = ["item-mean", "lightgcn", "text-only", "late-fusion-lightgcn", "aligned-lightgcn", "sella-lightgcn"]


@pytest.fixture(scope="module")
def out(command: list[str]) -> Path:
    """OUT after a first run of six arms."""
    paper.main([*command, "--arms", *ASKED])
    return Path(command[command.index("--out") + 1])


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    return {row["arm"]: row for row in map(json.loads, (out / "rows.jsonl").read_text().splitlines())}


@pytest.mark.slow
def test_every_row_holds_the_auc_of_the_scores_that_were_kept(out: Path) -> None:
    rows = rows_of(out)
    assert list(rows) == ASKED
    (data,) = (out / "stages").glob("prepare-data-*/output")
    label = pl.read_parquet(data / "test.parquet")["label"].to_numpy()
    scores = {}
    for arm, row in rows.items():
        (folder,) = (out / "stages").glob(f"*-{row['key']}")
        scores[arm] = pl.read_parquet(folder / "output" / "test.parquet")["logit"].to_numpy()
        assert row["test"]["auc"] == pytest.approx(roc_auc_score(label, scores[arm]))
        slices = row["slices"]
        for of in ("users", "items"):
            assert sum(part["rows"] for name, part in slices.items() if name.startswith(of)) == len(label)
    # no user in it, and the five labels of a prior at the mean of all
    train = pl.read_parquet(data / "train.parquet")
    means = train.group_by("item_id").agg(p=(pl.col("label").sum() + 5 * train["label"].mean()) / (pl.len() + 5))
    shown = pl.read_parquet(data / "test.parquet").join(means, on="item_id", how="left", maintain_order="left")
    chances = shown["p"].fill_null(train["label"].mean()).to_numpy()
    assert scores["item-mean"] == pytest.approx(np.log(chances / (1 - chances)), abs=1e-5)
    # late fusion is linear in the two that it is made of
    parts = np.stack([scores["lightgcn"], scores["text-only"], np.ones(len(label))], axis=1)
    assert np.linalg.lstsq(parts, scores["late-fusion-lightgcn"])[1] == pytest.approx(0, abs=1e-4)
    # as evaluate scores them: both from the bundle
    (bundle,) = (out / "stages").glob("fuse-*/output")
    model = load_bundle(bundle)
    test = evaluation_rows(PreparedData(data).test, model.config.evaluate)
    for arm, name in (("text_only", "text-only"), ("sella", "sella-lightgcn")):
        assert scores[name] == pytest.approx(model.score(test, arm), abs=1e-5)
    assert not np.allclose(scores["sella-lightgcn"], scores["late-fusion-lightgcn"])
    # less the LLM's part, SeLLa-Rec's score is linear in the aligned model's
    (scored,) = (out / "stages").glob("score-fused-*/output")
    llm = model.soft_tokens.llm_weight.item() * read_logits(scored)
    parts = np.stack([scores["aligned-lightgcn"], np.ones(len(label))], axis=1)
    assert np.linalg.lstsq(parts, scores["sella-lightgcn"] - llm)[1] == pytest.approx(0, abs=1e-4)


@pytest.mark.slow
def test_the_table_has_all_arms_and_says_which_were_not_run(out: Path, capsys: Any) -> None:
    paper.main(["--table", "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("Not run: "))
    not_run = line.removeprefix("Not run: ").removesuffix(".").split("; ")
    for name, arm in ARMS.items():
        assert (arm.label in not_run) == (name not in ASKED)
        if name in ASKED:
            line = next(line for line in lines if line.startswith(f"| {arm.label} |"))
            assert f"{rows_of(out)[name]['test']['uauc']:.4f}" in line
    assert any(line.startswith("| *SeLLa-Rec, Qwen2-7B*") and ".7606" in line for line in lines)
    assert f"Steps run at {commit()} on {machine()}." in lines[-1]


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(out: Path, command: list[str], steps_done: list[str]) -> None:
    before = (out / "rows.jsonl").read_text()
    paper.main([*command, "--arms", *ASKED])
    assert (steps_done, (out / "rows.jsonl").read_text()) == ([], before)


@pytest.mark.slow
def test_mlflow_has_a_run_for_the_table_and_one_below_it_for_each_row(out: Path, command: list[str]) -> None:
    import mlflow

    paper.main([*command, "--arms", *ASKED])
    runs = mlflow.search_runs(experiment_names=["paper"], output_format="list")
    (table,) = (run for run in runs if "sella.table" in run.data.tags)
    rows = {run.data.params["arm"]: run for run in runs if run.data.tags.get("mlflow.parentRunId") == table.info.run_id}
    assert (set(rows), len(runs)) == (set(ASKED), 1 + len(ASKED))
    assert rows["text-only"].data.metrics["test/auc"] == pytest.approx(rows_of(out)["text-only"]["test"]["auc"])


@pytest.mark.slow
def test_the_results_page_gets_the_table_and_the_results_folder_all_of_it(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "results.md"
    kept.write_text("<!-- paper:begin -->\n<!-- paper:end -->\n")
    monkeypatch.setattr(paper, "RESULTS_PAGE", kept)
    monkeypatch.setattr(paper, "RESULTS", tmp_path / "results")
    paper.main(["--table", "--write", "--out", str(out)])
    (page,) = (tmp_path / "results").glob("paper-*.md")
    assert "users with 1 to 32 train rows" in page.read_text()
    assert "| text-only LLM |" in kept.read_text()
    assert "train rows" not in kept.read_text()
    shown = {line for line in kept.read_text().splitlines() if not line.startswith("<!-- ")}
    assert shown < set(page.read_text().splitlines())
    assert (page.with_suffix("") / "rows.jsonl").read_text() == (out / "rows.jsonl").read_text()


@pytest.mark.slow
def test_what_was_published_is_gone_on_from(
    out: Path, command: list[str], steps_done: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "replace_block", lambda *_: None)
    monkeypatch.setattr(paper, "RESULTS", tmp_path / "results")
    again = shutil.copytree(out, tmp_path / "out")
    # two rows of the same scores
    paper.main([*command, "--out", str(again), "--arms", "item-mean", "--seeds", "0", "1"])
    steps_done.clear()
    for _ in range(2):
        paper.main(["--table", "--write", "--out", str(again)])
    (kept,) = (path for path in (tmp_path / "results").iterdir() if path.is_dir())
    at = command.index("--out") + 1
    paper.main([*command[:at], str(kept), *command[at + 1 :], "--arms", *ASKED])
    assert steps_done == ["prepare-data"]
    assert (kept / "table.md").read_text() == (again / "table.md").read_text()


@pytest.mark.slow
def test_another_arm_shares_the_steps_that_it_can(out: Path, command: list[str], steps_done: list[str]) -> None:
    paper.main([*command, "--arms", "collm-lightgcn"])
    assert steps_done == ["fuse", "score-fused"]
    bundles = [json.loads(path.read_text())["fuse"] for path in out.glob("stages/fuse-*/output/config.json")]
    switches = [[fuse[name] for name in ("aligned", "warm_start", "warm_token")] for fuse in bundles]
    assert sorted(switches) == [[False] * 3, [True] * 3]


@pytest.mark.slow
def test_several_steps_at_once_make_the_same_rows(
    out: Path, command: list[str], steps_done: list[str], tmp_path: Path
) -> None:
    at = command.index("--out") + 1
    paper.main([*command[:at], str(tmp_path), "--jobs", "2", *command[at + 1 :], "--arms", *ASKED])
    rows, alone = rows_of(tmp_path), rows_of(out)
    assert list(rows) == ASKED
    for arm in ASKED:
        assert (rows[arm]["key"], rows[arm]["test"]) == (alone[arm]["key"], pytest.approx(alone[arm]["test"]))
    # all were done in other processes
    assert steps_done == []


@pytest.mark.slow
def test_rows_of_other_settings_are_left_out(out: Path, command: list[str], capsys: Any) -> None:
    request = (out / "request.json").read_text()
    paper.main([*command, "tune.learning_rate=1e-4", "--arms", "lightgcn"])
    shown = capsys.readouterr().out
    assert "Not run: MF; text-only LLM;" in shown
    assert "| LightGCN | 0 |" in shown
    (out / "request.json").write_text(request)


@pytest.mark.slow
def test_a_killed_training_is_said_to_be_unfinished_and_goes_on(
    out: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    slower = [*command, "fuse.rows_per_step=1", "fuse.save_every=5", "--arms", "no-warm-token-lightgcn"]
    steps: list[float] = []

    def killed_at_12(self: paper_stages.Progress, done: float, total: float, note: str = "") -> None:
        if note == "training":
            steps.append(done)
            if done == 12:
                raise KeyboardInterrupt

    monkeypatch.setattr(paper_stages.Progress, "progress", killed_at_12)
    with pytest.raises(KeyboardInterrupt):
        paper.main(slower)
    paper.main(["--table", "--out", str(out)])
    assert "Begun and not finished: fuse." in capsys.readouterr().out
    before = len(steps)
    monkeypatch.setattr(
        paper_stages.Progress, "progress", lambda self, done, total, note="": note == "training" and steps.append(done)
    )
    paper.main(slower)
    assert steps[before] == 11
    assert "Begun and not finished: nothing." in capsys.readouterr().out


def test_a_table_of_nothing_is_an_error_that_says_so(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        paper.main(["--table", "--out", str(tmp_path)])
    assert "nothing was run" in capsys.readouterr().err


def test_a_step_is_known_by_what_it_reads(tiny_config: Config, tmp_path: Path) -> None:
    def keys(arm: str, config: Config = tiny_config, seed: int = 0) -> dict[str, str]:
        stages = stages_of(ARMS[arm], config, "data", tmp_path, seed)
        return {step: stages.key(step) for step in paper_stages.needed("score-fused")}

    def same(a: dict[str, str], b: dict[str, str]) -> set[str]:
        return {step for step in a if a[step] == b[step]}

    shared = {"prepare-data", "train-collab", "tune-llm", "distill-items"}
    base = keys("sella-lightgcn")
    assert same(base, keys("sella-mf")) == shared
    assert same(base, keys("collm-lightgcn")) == shared | {"align-collab"}
    assert same(base, keys("sella-lightgcn", seed=1)) == {"prepare-data"}
    faster = tiny_config.model_copy(update={"tune": tiny_config.tune.model_copy(update={"learning_rate": 1.0})})
    assert same(base, keys("sella-lightgcn", faster)) == {"prepare-data", "train-collab"}
    shorter = tiny_config.model_copy(
        update={"evaluate": tiny_config.evaluate.model_copy(update={"tokens_per_batch": 64})}
    )
    assert keys("sella-lightgcn", shorter) == base


def test_a_setting_that_comes_later_and_is_none_leaves_finished_steps_valid(
    tiny_config: Config, tmp_path: Path
) -> None:
    class LaterTune(TuneConfig):
        later: int | None = None

    class LaterConfig(Config):
        tune: LaterTune

    def key(config: Config) -> str:
        return stages_of(ARMS["text-only"], config, "data", tmp_path, 0).key("tune-llm")

    later = LaterConfig.model_validate(tiny_config.model_dump())
    assert key(later) == key(tiny_config)
    asked = later.model_copy(update={"tune": later.tune.model_copy(update={"later": 1})})
    assert key(asked) != key(tiny_config)


def split_of(user: list[int], item: list[int], warm: list[bool]) -> Split:
    n = len(user)
    zeros = np.zeros(n)
    return Split(np.array(user), np.array(item), zeros, zeros, np.zeros((n, 1)), np.array(warm))


def test_a_copy_of_the_data_elsewhere_leaves_every_step_as_it_was(tmp_path: Path) -> None:
    keys = []
    for place, rows in (("here", b"1::2::5::3\n"), ("there", b"1::2::5::3\n"), ("changed", b"1::2::4::3\n")):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "ratings.dat").write_bytes(rows)
        os.utime(folder / "ratings.dat", (len(place), len(place)))
        config = load_config(PACKAGED["movielens-1m"], paper.data_settings(folder))
        keys.append(Stages(config, paper.data_state(config, folder), tmp_path, "").key("fuse"))
    assert keys[0] == keys[1] != keys[2]


def test_slices_by_hand() -> None:
    train = split_of([1, 2, 2, 3, 3, 3], [1, 1, 1, 1, 1, 1], [True] * 6)
    test = split_of([1, 2, 3, 4], [1, 1, 1, 2], [True, True, True, False])
    found = {name: np.flatnonzero(mask).tolist() for name, mask in slice_masks(train, test).items()}
    assert found == {
        "warm": [0, 1, 2],
        "cold": [3],
        "users with no train rows": [3],
        "users with 1 to 1 train rows": [0],
        "users with 2 to 2 train rows": [1],
        "users with 3 to 3 train rows": [2],
        "items with no train rows": [3],
        "items with 1 to 6 train rows": [0, 1, 2],
    }


def test_each_sella_rec_is_compared_with_what_is_above_its_own_model() -> None:
    aucs = {"sella-lightgcn": 0.75, "sella-mf": 0.74, "late-fusion-mf": 0.73, "late-fusion-lightgcn": 0.72}
    cost = {"fuse": {"seconds": 60.0, "peak_rss_mb": 1024.0}}
    rows = {
        arm: {0: {"test": {"auc": auc, "uauc": auc}, "valid": {"auc": auc, "uauc": auc}, "costs": cost}}
        for arm, auc in aucs.items()
    }
    draws = {arm: {0: {metric: np.full(9, auc) for metric in ("auc", "uauc")}} for arm, auc in aucs.items()}
    *_, main, other = write_table(rows, draws, "sella-lightgcn", slices=False).split("\n\n")
    assert len(main.splitlines()) == 2 + 3
    head, _, *lines = other.splitlines()
    assert head.startswith(f"| {ARMS['sella-mf'].label}, minus |")
    assert [line.split(" |")[0] for line in lines] == [f"| {ARMS['late-fusion-mf'].label}"]
    assert "+0.0100 (+0.0100 to +0.0100)" in lines[0]


def test_p_values_by_hand() -> None:
    # 3 of 99 resamples at or below zero: 2 * 4 / 100
    assert two_sided(np.array([-1.0] * 2 + [0.0] + [1.0] * 96)) == pytest.approx(0.08)
    assert two_sided(np.array([-1.0, 1.0])) == 1.0
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
