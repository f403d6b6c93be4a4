"""`sella recommend --all`: every user of a bundle, in shards that worker processes divide among them."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from components.code_version import code_version
from components.recommend.champion import make_plan
from components.recommend.output import Output
from components.recommend.plan import BatchPlan
from components.recommend.step import rank_users, users_of
from components.recommend.summarize import summarize
from pipeline.local.run_folder import RunError
from pipeline.predict.champion import fetch_champion
from pipeline.predict.scores import find_bundle
from sella_rec.config import Config, RecommendConfig
from sella_rec.environment import LOCK
from sella_rec.model.bundle import check_bundle
from sella_rec.runtime.supervision import exit_with_runner
from sella_rec.tracking.tracker import Tracker

if TYPE_CHECKING:
    from sella_rec.model.ranker import Ranker

_LOOK_SECONDS = 0.5
# In a worker: what it was started with.
_worker: dict[str, Any] = {}


def recommend_all(
    bundle: Path | None, output: str, recommend: RecommendConfig, shards: int, workers: int, console: Console
) -> None:
    """Write recommendations for all users of a bundle, and show measures of them; complete shards are kept.

    Args:
        bundle: fuse's folder; none: the champion of the registry.
        output: folder or fsspec URI, see `components.recommend.output`.
        recommend: recommendations per user, and candidates per user that the LLM ranks.
        shards: how many parts.
        workers: processes; each has its share of the cores, and the model in its own memory.

    Raises:
        RegistryError, TrackingError: there is no champion, or no registry.
        BundleError, BackboneError: the bundle cannot be used.
        OutputError: the folder cannot be used, or holds another batch.
        RunError: a worker was killed.
    """
    config, model = Config(recommend=recommend), ""
    folder = Output.at(output)
    # before a model is fetched
    folder.check_ours()
    if bundle is None:
        bundle, version = fetch_champion(config.promote.model_name)
        model = version.label
    find_bundle(bundle)
    check_bundle(bundle)
    plan = make_plan(bundle, code_version("recommend"), config, shards, model)
    folder.check(plan)
    todo = [shard for shard in range(shards) if not folder.holds(shard, plan)]
    if len(todo) < shards:
        console.print(f"{shards - len(todo)} of {shards} shards are already complete")
    if todo:
        _work(bundle, output, plan, todo, min(workers, len(todo)), console)
    _show(summarize(bundle, output, plan, Tracker()), output, console)


def _work(bundle: Path, output: str, plan: BatchPlan, todo: list[int], workers: int, console: Console) -> None:
    users = sum(len(users_of(bundle, shard, plan.shards)) for shard in todo)
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    with _supervised():
        threads = max(1, torch.get_num_threads() // workers)
        pool = ProcessPoolExecutor(workers, context, _start_worker, (bundle, output, plan, threads, done))
        try:
            futures = {pool.submit(_rank_shard, shard): shard for shard in todo}
            _follow(futures, done, users, console)
        except BaseException as error:
            # workers that still run end with the lock
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, BrokenProcessPool):
                raise
            raise RunError(
                "a worker was killed, possibly for lack of memory (fewer --workers need less): "
                "run the same command again; complete shards are kept"
            ) from error
        pool.shutdown()


def _follow(futures: dict[Future[None], int], done: Any, users: int, console: Console) -> None:
    """Show progress until all shards are written; raises what a worker raised."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar, waiting = progress.add_task("users", total=users), set(futures)
        while waiting:
            finished, waiting = wait(waiting, _LOOK_SECONDS, FIRST_COMPLETED)
            progress.update(bar, completed=done.value)
            for future in finished:
                future.result()
                if not console.is_terminal:
                    console.print(f"shard {futures[future]}: done, {done.value} of {users} users")


def _start_worker(bundle: Path, output: str, plan: BatchPlan, threads: int, done: Any) -> None:
    exit_with_runner()
    # Ctrl-C is the command's to handle
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    _worker.update(bundle=bundle, folder=Output.at(output), plan=plan, done=done)


@cache
def _ranker(bundle: Path) -> Ranker:
    # not in the initializer, whose errors do not reach the command
    from transformers.utils import logging

    from sella_rec.model.bundle import load_bundle
    from sella_rec.model.ranker import Ranker

    logging.disable_progress_bar()
    return Ranker(load_bundle(bundle))


def _rank_shard(shard: int) -> None:
    bundle, plan, before = _worker["bundle"], _worker["plan"], 0

    def count(done: int, _total: int) -> None:
        nonlocal before
        with _worker["done"].get_lock():
            _worker["done"].value += done - before
        before = done

    table = rank_users(_ranker(bundle), users_of(bundle, shard, plan.shards), plan, count)
    _worker["folder"].write_part(shard, plan, table)


@contextmanager
def _supervised() -> Iterator[None]:
    """Workers end when this does, even by SIGKILL: they watch a lock."""
    with tempfile.NamedTemporaryFile(prefix="sella-lock-") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ[LOCK] = lock.name
        try:
            yield
        finally:
            del os.environ[LOCK]


def _show(measures: dict[str, float], output: str, console: Console) -> None:
    table = Table(title=f"Recommendations in {output}", show_header=False)
    for name, value in measures.items():
        table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:.4f}")
    console.print(table)
