"""Batch recommendations: users per second with one and two workers, and a batch whose worker is killed; real LLM.

    python -m benchmarks.batch [--users 48] [--write]

Runs `sella recommend --all` three times over a part of the embedded ratings' users: with one worker, with two, and with
two of which one is killed by SIGKILL in the middle, after which the same command finishes the batch. The files of all
three are compared by SHA-256. Rates leave out starting the workers and loading the model. The adapter and the special
tokens are untrained: time does not depend on it. Some five minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import psutil
import torch

from benchmarks._report import REPOSITORY, SERVING_PAGE, provenance, replace_block
from components.prepare_data.step import prepare_data
from pipeline.packaged import PACKAGED
from sella_rec.collab.models import create_model
from sella_rec.config import Config, load_config
from sella_rec.data.dataset import PreparedData
from sella_rec.environment import CACHE, cache_folder
from sella_rec.llm.adapter import add_adapter, save_adapter
from sella_rec.llm.backbone import load_backbone
from sella_rec.llm.projection import Projection
from sella_rec.llm.soft_tokens import SoftTokens
from sella_rec.model.bundle import save_bundle
from sella_rec.tracking.tracker import Tracker

SHARDS, CANDIDATES = 12, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=48)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/serving.md")
    arguments = parser.parse_args()
    config = load_config(PACKAGED["quickstart"])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = build(config, folder, arguments.users)
        alone, two = (run(bundle, folder / f"workers-{n}", n) for n in (1, 2))
        complete = kill_in_the_middle(bundle, folder / "killed")
        run(bundle, folder / "killed", 2)
        files = {name: digests(folder / name) for name in ("workers-1", "workers-2", "killed")}
    lines = ["| workers | users a second | candidates a second |", "|---:|---:|---:|"]
    lines += [f"| {n} | {rate:.2f} | {rate * CANDIDATES:.0f} |" for n, rate in ((1, alone), (2, two))]
    after_kill, between = (said(files[name] == files["workers-2"]) for name in ("killed", "workers-1"))
    lines += [
        "",
        f"Two workers, each with half the cores, do {two / alone:.2f} times what one with all of them does. A worker "
        f"killed (SIGKILL) when {complete} of {SHARDS} shards were complete, and the command given again: the files "
        f"are {after_kill} as undisturbed. Those of one worker are {between} as those of two.",
        "",
        f"`python -m benchmarks.batch`: {arguments.users} users, {CANDIDATES} candidates each, {SHARDS} shards. "
        + provenance("embedded MovieLens, SmolLM2-135M-Instruct", [config.seed]),
    ]
    print("\n".join(lines))
    if arguments.write:
        replace_block("batch", "\n".join(lines), SERVING_PAGE)


def said(same: bool) -> str:
    return "the same, byte for byte," if same else "NOT the same"


def build(config: Config, folder: Path, users: int) -> Path:
    """A bundle before any training, of the first so many users."""
    torch.manual_seed(config.seed)
    prepare_data(config, folder / "data", Tracker())
    data = PreparedData(folder / "data")
    llm, _ = load_backbone(config.backbone)
    hidden = llm.config.hidden_size
    norm = llm.get_input_embeddings().weight.float().norm(dim=1).mean().item()
    tables = create_model("mf", config.collab, data).tables(data.train)
    projection = Projection(config.collab.dim, config.align.hidden, hidden)
    semantics = torch.randn(data.n_items + 1, hidden)
    soft_tokens = SoftTokens(tables, semantics, projection, norm, config.fuse.gain)
    soft_tokens.set_residual(1.0, 1.0, 0.0)
    save_adapter(add_adapter(llm, config.tune), config.backbone, folder / "adapter")
    save_bundle(folder / "bundle", config, data, folder / "adapter", soft_tokens)
    kept = folder / "bundle" / "users.parquet"
    pl.read_parquet(kept).head(users).write_parquet(kept)
    return folder / "bundle"


def start(bundle: Path, output: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipeline.cli.main", "recommend", "--all", "--shards", str(SHARDS)]
    command += ["--bundle", str(bundle), "--output", str(output)]
    command += ["--workers", str(workers), "--retrieve", str(CANDIDATES)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), CACHE: str(cache_folder().absolute())}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def run(bundle: Path, output: Path, workers: int) -> float:
    """To the end; users per second, from when as many shards are complete as there are workers."""
    if start(bundle, output, workers).wait():
        raise SystemExit("sella recommend --all failed")
    ended = sorted((part.stat().st_mtime, part) for part in output.glob("shard=*/part.parquet"))
    users = sum(pl.read_parquet(part)["user_id"].n_unique() for _, part in ended[workers:])
    return users / (ended[-1][0] - ended[workers - 1][0])


def kill_in_the_middle(bundle: Path, output: Path) -> int:
    """Kill a worker once a third of the shards are complete; how many are."""
    with start(bundle, output, 2) as process:
        while len(list(output.glob("shard=*/part.parquet"))) < SHARDS // 3:
            if process.poll() is not None:
                raise SystemExit("sella recommend --all ended before a worker could be killed")
            time.sleep(0.05)
        children = psutil.Process(process.pid).children()
        os.kill(next(child.pid for child in children if "spawn_main" in " ".join(child.cmdline())), signal.SIGKILL)
    return len(list(output.glob("shard=*/part.parquet")))


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main()
