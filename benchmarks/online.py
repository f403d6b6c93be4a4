"""The model server under load, in a process of its own: latency, throughput, memory, a champion's swap, kill -9.

    python -m benchmarks.online [--seconds 60] [--soak-seconds 600] [--write]

Each request asks for 20 random films of the packaged ratings for a random user, with SmolLM2-135M. The LLM's adapter
and all vectors are untrained: time does not depend on it. Everything is on loopback; clients share the cores with the
server. Prints a table; `--write` also puts it into docs/serving.md. Takes the soak and some ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import polars as pl
import psutil
import requests

from benchmarks._report import REPOSITORY, SERVING_PAGE, provenance, replace_block
from benchmarks.untrained import untrained_bundle
from components.promote.register import example_input, signature
from pipeline.packaged import PACKAGED
from sella_rec.config import Config, load_config
from sella_rec.environment import CACHE, cache_folder
from sella_rec.serving import pyfunc as model
from sella_rec.serving.gateway import VERSION_HEADER
from sella_rec.tracking.registry import CHAMPION

NAME, CANDIDATES, CLIENTS, SOAK_CLIENTS, PORT = "sella-rec", 20, (1, 4, 16), 4, 18080
URL = f"http://127.0.0.1:{PORT}"
Row = tuple[str, str]


@dataclass
class Load:
    """What clients saw: seconds, status and version of each request; a lost connection is status 0."""

    seconds: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    versions: list[str | None] = field(default_factory=list)
    lasted: float = 0.0

    @property
    def failed(self) -> int:
        return sum(status != 200 for status in self.statuses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of load for each number of clients")
    parser.add_argument("--soak-seconds", type=float, default=600, help="of load while memory is watched")
    parser.add_argument("--write", action="store_true", help="replace the table in docs/serving.md")
    arguments = parser.parse_args()
    config = load_config(PACKAGED["quickstart"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = measure(config, folder, arguments.seconds, arguments.soak_seconds)
    source = provenance("embedded MovieLens, SmolLM2-135M-Instruct", [config.seed])
    text = "\n".join(["| | |", "|---|---:|", *(f"| {what} | {figure} |" for what, figure in rows)])
    options = f"--seconds {arguments.seconds:g} --soak-seconds {arguments.soak_seconds:g}"
    text += f"\n\n`python -m benchmarks.online {options}`: {CANDIDATES} candidates a request. {source}"
    print(text)
    if arguments.write:
        replace_block("online", text, SERVING_PAGE)


def measure(config: Config, folder: Path, seconds: float, soak_seconds: float) -> list[Row]:
    """Every measure, in the order of the table."""
    untrained_bundle(config, folder / "bundle", config.seed)
    asked = Questions(folder / "bundle")
    client = registry(folder)
    rows: list[Row] = []
    with server(folder, asked) as (process, started):
        rows.append(("start to first answer, with the download, seconds / of CPU", started))
        for clients in CLIENTS:
            rows += latencies(clients, under_load(asked, clients, lambda: time.sleep(seconds)))
        rows += memory(process, asked, soak_seconds)
        rows += swap(client, asked)
        process.kill()
    with server(folder, asked) as (_, started):
        rows.append(("start after kill -9 to first answer, seconds / of CPU", started))
    return rows


class Questions:
    """Bodies of requests: a random user, random items."""

    def __init__(self, bundle: Path):
        self._users, self._items = (
            pl.read_parquet(bundle / f"{kind}s.parquet")[f"{kind}_id"].to_list() for kind in ("user", "item")
        )

    def body(self, draw: random.Random) -> dict[str, Any]:
        row = {"user_id": draw.choice(self._users), "candidates": draw.sample(self._items, CANDIDATES)}
        return {"dataframe_records": [row]}


def registry(folder: Path) -> mlflow.MlflowClient:
    """A registry in SQLite with the bundle as versions 1, the champion, and 2."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("online", (folder / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment) as run:
        logged = mlflow.pyfunc.log_model(
            name=NAME,
            python_model=model.__file__,
            artifacts={"bundle": str(folder / "bundle")},
            signature=signature(),
            input_example=example_input(folder / "bundle"),
            pip_requirements=["torch"],
        )
    client.create_registered_model(NAME)
    for _ in range(2):
        client.create_model_version(NAME, logged.model_uri, run.info.run_id)
    client.set_registered_model_alias(NAME, CHAMPION, "1")
    return client


@contextmanager
def server(folder: Path, asked: Questions) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process, and the seconds until it answered, by the clock and of CPU."""
    cache = folder / "cache"
    cache.mkdir(exist_ok=True)
    if not (cache / "backbones").exists():
        (cache / "backbones").symlink_to((cache_folder() / "backbones").absolute())
    environment = os.environ | {CACHE: str(cache), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "sella_rec.serving", f"--port={PORT}", "--poll-seconds=1"]
    begun = time.perf_counter()
    with (folder / "server.log").open("a") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        while not answers(asked):
            if process.poll() is not None:
                raise SystemExit((folder / "server.log").read_text())
            time.sleep(0.05)
        seconds, used = time.perf_counter() - begun, psutil.Process(process.pid).cpu_times()
        yield process, f"{seconds:.1f} / {used.user + used.system:.1f}"
    finally:
        process.kill()
        process.wait()


def answers(asked: Questions) -> bool:
    try:
        return requests.post(f"{URL}/invocations", json=asked.body(random.Random(0)), timeout=60).status_code == 200
    except requests.ConnectionError:
        return False


def under_load(asked: Questions, clients: int, meanwhile: Callable[[], object]) -> Load:
    """Clients that each send one request after the other until `meanwhile` returns."""
    seen, stop = Load(), threading.Event()

    def run(seed: int) -> None:
        draw, session = random.Random(seed), requests.Session()
        while not stop.is_set():
            body, begun = asked.body(draw), time.perf_counter()
            try:
                answer = session.post(f"{URL}/invocations", json=body, timeout=300)
                status, version = answer.status_code, answer.headers.get(VERSION_HEADER)
            except requests.ConnectionError:
                status, version = 0, None
            seen.seconds.append(time.perf_counter() - begun)
            seen.statuses.append(status)
            seen.versions.append(version)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    meanwhile()
    stop.set()
    for thread in threads:
        thread.join()
    seen.lasted = time.perf_counter() - begun
    return seen


def latencies(clients: int, seen: Load) -> list[Row]:
    p50, p95 = np.percentile(seen.seconds, [50, 95])
    rate, who = len(seen.seconds) / seen.lasted, f"{clients} client{'s' if clients > 1 else ''}"
    return [
        (f"{who}: p50 / p95, ms", f"{p50 * 1e3:.0f} / {p95 * 1e3:.0f}"),
        (f"{who}: requests / candidates a second", f"{rate:.2f} / {rate * CANDIDATES:.0f}"),
        (f"{who}: requests, failed", f"{len(seen.seconds)}, {seen.failed}"),
    ]


def memory(process: subprocess.Popen[bytes], asked: Questions, seconds: float) -> list[Row]:
    """The server's resident memory under load: medians of the soak's first and last fifth, and the most."""
    watched, rss = psutil.Process(process.pid), []

    def watch() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rss.append(watched.memory_info().rss / 2**20)
            time.sleep(1)

    seen = under_load(asked, SOAK_CLIENTS, watch)
    fifth = max(1, len(rss) // 5)
    first, last = np.median(rss[:fifth]), np.median(rss[-fifth:])
    what = f"memory over {seconds / 60:g} minutes of {SOAK_CLIENTS} clients, MiB: first fifth / last fifth / most"
    return [(what, f"{first:.0f} / {last:.0f} / {max(rss):.0f}"), ("its requests, failed", _counts(seen))]


def swap(client: mlflow.MlflowClient, asked: Questions) -> list[Row]:
    """The alias moves from version 1 to 2 under load."""
    took = 0.0

    def move() -> None:
        nonlocal took
        time.sleep(3)
        client.set_registered_model_alias(NAME, CHAMPION, "2")
        begun = time.perf_counter()
        while requests.get(f"{URL}/version", timeout=60).json()["version"] != "2":
            time.sleep(0.1)
        took = time.perf_counter() - begun
        time.sleep(3)

    seen = under_load(asked, SOAK_CLIENTS, move)
    by_version = " + ".join(str(seen.versions.count(version)) for version in ("1", "2"))
    return [
        (f"champion's swap under {SOAK_CLIENTS} clients, seconds from alias to the new version", f"{took:.1f}"),
        ("its requests (old + new version), failed", f"{by_version}, {seen.failed}"),
        ("its slowest request, ms", f"{max(seen.seconds) * 1e3:.0f}"),
    ]


def _counts(seen: Load) -> str:
    return f"{len(seen.seconds)}, {seen.failed}"


if __name__ == "__main__":
    main()
