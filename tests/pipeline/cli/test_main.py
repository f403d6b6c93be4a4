from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.packaged import PACKAGED
from tests.pipeline.conftest import clean_environment, sella_command

runner = CliRunner()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test works in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


_COMMANDS = ("run", "compile", "data", "score", "recommend", "submit", "schedule", "status", "promote", "rollback")


@pytest.mark.parametrize("command", [[], *([name] for name in _COMMANDS)])
def test_every_command_has_help(command):
    shown = runner.invoke(app, [*command, "--help"])
    assert shown.exit_code == 0
    assert "Usage: " in shown.output


def test_help_imports_nothing_heavy():
    code = (
        "import sys, pipeline.cli.main; sys.exit(bool({'kfp', 'mlflow', 'polars', 'torch', 'yaml'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=clean_environment(), check=False).returncode == 0


def test_a_packaged_configuration_is_known_by_name_and_takes_a_source(tmp_path):
    known = CliRunner().invoke(app, ["data", "--config", "movielens-1m", "--source", str(tmp_path)])
    assert known.exit_code == 1
    assert f"{tmp_path}/movies.dat: no such file" in known.stderr
    unknown = CliRunner().invoke(app, ["data", "--config", "movielens-2m"])
    assert unknown.exit_code == 1
    assert "movielens-2m" in unknown.stderr


def test_the_packaged_configurations_are_valid():
    from sella_rec.config import load_config

    for path in PACKAGED.values():
        assert load_config(path).backbone.name.startswith("embedded:"), path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "fuse.lerning_rate=1"], "did you mean 'learning_rate'?"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--interactions", "ratings.csv"], "together"),
        (["--interactions", "ratings.csv", "--items", "items.csv"], "no such file or folder"),
        (["--resume"], "no run in runs/ to resume"),
    ],
)
def test_what_cannot_run_is_told_in_one_message(arguments, message):
    refused = runner.invoke(app, ["run", *arguments])
    assert refused.exit_code == 1
    assert message in refused.stderr
    assert isinstance(refused.exception, SystemExit)


def test_resume_takes_no_other_options():
    refused = runner.invoke(app, ["run", "--resume", "--set", "seed=1"])
    assert refused.exit_code == 2
    assert "keeps its configuration" in " ".join(refused.stderr.replace("│", " ").split())


def test_an_unreachable_tracking_server_is_told_of(small_ratings):
    command = sella_command("run", "--interactions", str(small_ratings / "interactions.csv"))
    environment = clean_environment() | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    command += ["--items", str(small_ratings / "items.csv")]
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "MLFLOW_TRACKING_URI = http://127.0.0.1:9 cannot be used" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_data_describes_and_keeps_the_prepared_folder(small_ratings, elsewhere):
    files = ["--interactions", str(small_ratings / "interactions.csv"), "--items", str(small_ratings / "items.csv")]
    shown = runner.invoke(app, ["data", *files, "--output", "prepared"])
    assert shown.exit_code == 0, shown.output
    rows = {name: pl.read_parquet(elsewhere / f"prepared/{name}.parquet") for name in ("train", "valid", "test")}
    assert f"{sum(map(len, rows.values())):,} interactions of 40 users" in shown.output
    assert rows["test"].columns == ["user_id", "item_id", "timestamp", "label", "history", "warm"]
    assert "title" in pl.read_parquet(elsewhere / "prepared/items.parquet").columns


def test_data_rejects_what_breaks_the_contract(elsewhere):
    (elsewhere / "ratings.csv").write_text("user,item_id,timestamp,rating\n1,1,1,5\n")
    (elsewhere / "items.csv").write_text("item_id,title\n1,One\n")
    refused = runner.invoke(app, ["data", "--interactions", "ratings.csv", "--items", "items.csv"])
    assert refused.exit_code == 1
    assert "user_id" in refused.stderr
    assert "ratings.csv" in refused.stderr


def test_score_wants_pairs_or_a_user_with_items():
    for arguments in ([], ["--user", "1"], ["--item", "1"], ["--pairs", "p.csv", "--user", "1", "--item", "1"]):
        assert runner.invoke(app, ["score", *arguments]).exit_code == 2, arguments


def test_without_a_finished_run_there_is_nothing_to_ask():
    refused = runner.invoke(app, ["recommend", "1"])
    assert refused.exit_code == 1
    assert "no run has finished here yet" in refused.stderr


def test_scores_a_file_of_pairs_in_its_order(fused, elsewhere):
    (elsewhere / "pairs.csv").write_text("user_id,item_id,note\n2,5,a\n1,5,b\n2,9,c\n")
    written = runner.invoke(app, ["score", "--bundle", str(fused), "--pairs", "pairs.csv", "--output", "scores.csv"])
    assert written.exit_code == 0, written.output
    scores = pl.read_csv(elsewhere / "scores.csv")
    assert scores.select("user_id", "item_id").rows() == [(2, 5), (1, 5), (2, 9)]
    for (user, item), score in zip(scores.select("user_id", "item_id").rows(), scores["score"], strict=True):
        alone = runner.invoke(app, ["score", "--bundle", str(fused), "--user", str(user), "--item", str(item)])
        assert float(alone.stdout.splitlines()[1].split(",")[2]) == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [("user_id,film\n1,2\n", "no column item_id"), ("user_id,item_id\nnobody,5\n", "user_id 'nobody' is not known")],
)
def test_pairs_that_cannot_be_scored_are_told_of(fused, elsewhere, pairs, message):
    (elsewhere / "pairs.csv").write_text(pairs)
    refused = runner.invoke(app, ["score", "--bundle", str(fused), "--pairs", "pairs.csv"])
    assert refused.exit_code == 1
    assert message in refused.stderr
