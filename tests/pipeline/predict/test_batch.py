"""`sella recommend --all`: shards in worker processes, killed and taken up again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Literal

import polars as pl
import psutil
import pytest
from typer.testing import CliRunner

from components.code_version import code_version
from components.recommend.champion import make_plan
from components.recommend.output import Output, part_name
from components.recommend.step import rank_users, users_of
from components.recommend.summarize import summarize
from pipeline.cli.main import app
from sella_rec.config import Config, RecommendConfig
from sella_rec.model.bundle import load_bundle
from sella_rec.model.ranker import Ranker
from sella_rec.tracking.tracker import Tracker
from tests.pipeline.conftest import clean_environment, sella_command

SHARDS = 8
SIZES = RecommendConfig(top_n=3, retrieve=60)


def command(bundle: Path, output: str | Path, workers: int) -> list[str]:
    sizes = ["--shards", str(SHARDS), "--workers", str(workers), "--top", "3", "--retrieve", "60"]
    return sella_command("recommend", "--all", "--bundle", str(bundle), "--output", str(output), *sizes)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def undisturbed(fused: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The batch made in this process, shard after shard."""
    folder, ranker = tmp_path_factory.mktemp("undisturbed"), Ranker(load_bundle(fused))
    plan = make_plan(fused, code_version("recommend"), Config(recommend=SIZES), SHARDS)
    for shard in range(SHARDS):
        table = rank_users(ranker, users_of(fused, shard, SHARDS), plan)
        Output.at(str(folder)).write_part(shard, plan, table)
    summarize(fused, str(folder), plan, Tracker())
    return folder


def kill_in_the_middle(bundle: Path, out: Path, workers: int, victim: Literal["worker", "command"]) -> str:
    """Kill once another shard is complete; what the command said on its way out."""
    before, asked = len(digests(out)), command(bundle, out, workers)
    pipe = subprocess.PIPE
    with subprocess.Popen(asked, env=clean_environment(), stdout=pipe, stderr=pipe, text=True) as process:
        while len(list(out.glob("shard=*/part.parquet"))) <= before:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        children = psutil.Process(process.pid).children()
        busy = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        assert len(busy) == workers
        os.kill(busy[0].pid if victim == "worker" else process.pid, signal.SIGKILL)
        said = process.communicate()[1]
        assert psutil.wait_procs(busy, timeout=30)[1] == [], "a worker outlives the command"
    assert process.returncode == (1 if victim == "worker" else -signal.SIGKILL)
    assert before < len(digests(out)) < SHARDS
    assert not (out / "_manifest.json").exists()
    return said


# it starts the command three times, and each its workers
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_in_the_middle_and_run_again_it_is_the_same_byte_for_byte(undisturbed, fused, tmp_path):
    out = tmp_path / "out"
    said = kill_in_the_middle(fused, out, 2, "worker")
    assert "a worker was killed" in said
    assert "run the same command again" in said
    assert "Traceback" not in said
    kill_in_the_middle(fused, out, 1, "command")
    times = {name: (out / name).stat().st_mtime_ns for name in digests(out)}
    asked = command(fused, f"file://{out}", 1)
    again = subprocess.run(asked, env=clean_environment(), capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (0, "")
    assert f"{len(times)} of {SHARDS} shards are already complete" in again.stdout
    assert again.stdout.count(": done, ") == SHARDS - len(times)
    assert "catalogue coverage" in again.stdout
    assert digests(out) == digests(undisturbed)
    assert {name: (out / name).stat().st_mtime_ns for name in times} == times


def test_every_user_is_recommended_to(undisturbed, fused):
    found = pl.read_parquet(undisturbed / "shard=*" / "part.parquet", hive_partitioning=False)
    users = pl.read_parquet(fused / "users.parquet")
    assert set(found["user_id"]) == set(users["user_id"])
    assert set(found.group_by("user_id").len()["len"]) == {3}
    seen = users.explode("seen").select("user_id", item_id="seen")
    assert found.join(seen, on=["user_id", "item_id"]).height == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--all"], 2, "use --all and --output DIR together"),
        (["1", "--output", "out"], 2, "use --all and --output DIR together"),
        (["1", "--all", "--output", "out"], 2, "give a USER_ID"),
        (["1", "--champion"], 2, "use --champion with --all"),
        (["--all", "--output", "out", "--champion", "--bundle", "."], 2, "without --bundle"),
        (["--all", "--output", "out", "--champion"], 1, "no mlflow.db in this folder: set MLFLOW_TRACKING_URI"),
        (["--all", "--output", "out"], 1, "no run has finished here yet"),
        (["--all", "--output", "out", "--bundle", "."], 1, "is not a SeLLa-Rec bundle"),
    ],
)
def test_what_cannot_be_is_told_in_one_message(arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    told = CliRunner().invoke(app, ["recommend", *arguments])
    assert told.exit_code == code
    assert message in " ".join(told.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_another_batch_in_the_folder_is_told_of(undisturbed, fused):
    told = CliRunner().invoke(app, ["recommend", "--all", "--bundle", str(fused), "--output", str(undisturbed)])
    assert told.exit_code == 1
    assert f"{part_name(0)} belongs to another batch (top_n 3, not 10; retrieve 60, not 100; shards 8" in told.stderr


def test_a_workers_error_is_the_commands(fused, tmp_path):
    bundle = shutil.copytree(fused, tmp_path / "bundle")
    backbone = json.loads((bundle / "adapter/backbone.json").read_text()) | {"name": str(tmp_path / "nowhere")}
    (bundle / "adapter/backbone.json").write_text(json.dumps(backbone))
    told = CliRunner().invoke(app, ["recommend", "--all", "--bundle", str(bundle), "--output", str(tmp_path / "out")])
    assert told.exit_code == 1
    assert told.stderr.startswith(f"backbone.name = '{tmp_path}/nowhere' could not be loaded")
    assert not (tmp_path / "out").exists()
