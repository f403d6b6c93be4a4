"""Labels per second with packed rows and with one prompt a label: training and scoring, real LLM, real ratings.

    python -m benchmarks.packing [--write]

Prints a table; `--write` also puts it into docs/results.md. Takes some five minutes on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks._report import RESULTS_PAGE, provenance, replace_block
from components.prepare_data.step import prepare_data
from pipeline.packaged import PACKAGED
from sella_rec.config import Config, load_config
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.data.row_selection import evaluation_rows
from sella_rec.llm.adapter import add_adapter
from sella_rec.llm.backbone import load_backbone
from sella_rec.llm.packing import Packer, group_by_user, training_order
from sella_rec.llm.prompt import PromptBuilder
from sella_rec.llm.scorer import YesNoScorer
from sella_rec.tracking.tracker import Tracker

TARGETS = 16
LABELS = 256
PROMPTS_A_BATCH = 8
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/results.md")
    write = parser.parse_args().write
    with quickstart() as (config, data):
        rows = measure(config, data)
    text = "\n".join([*table(rows), "", source("packing", f"best of {REPEATS}", config.seed)])
    print(text)
    if write:
        replace_block("packing", text, RESULTS_PAGE)


@contextmanager
def quickstart() -> Iterator[tuple[Config, PreparedData]]:
    """The packaged configuration and its data, prepared in a folder that lasts as long as the context."""
    config = load_config(PACKAGED["quickstart"])
    with tempfile.TemporaryDirectory() as folder:
        prepare_data(config, Path(folder) / "data", Tracker())
        yield config, PreparedData(Path(folder) / "data")


def source(name: str, how: str, seed: int) -> str:
    """The line under a table: the command, how it measures, and where its figures came from."""
    made = provenance("embedded MovieLens, SmolLM2-135M-Instruct", [seed])
    return f"`python -m benchmarks.{name}`: {how}. {made}"


def make_scorer(config: Config, data: PreparedData) -> tuple[YesNoScorer, Packer]:
    """The LLM with a fresh adapter, and the packer of its prompts."""
    llm, tokenizer = load_backbone(config.backbone)
    prompts = PromptBuilder(tokenizer, config.prompt, data.titles)
    return YesNoScorer(add_adapter(llm, config.tune), prompts.yes_id, prompts.no_id), Packer(prompts)


def measure(config: Config, data: PreparedData) -> list[tuple[str, float, float]]:
    """(what, labels per second one by one, packed) for a training step and for scoring."""
    scorer, packer = make_scorer(config, data)
    rates = []
    for what, split, grouped, pass_over in (
        ("training (LoRA)", data.train, group_by_user, train),
        # a user's rows share one history there, so they may be grouped as in training
        ("scoring", evaluation_rows(data.test, config.evaluate), group_by_user, score),
    ):
        one_by_one = [np.array([row]) for group in grouped(split, TARGETS) for row in group]
        packed = grouped(split, TARGETS)
        rates.append(
            (
                what,
                rate(scorer, packer, split, one_by_one, PROMPTS_A_BATCH, pass_over),
                rate(scorer, packer, split, packed, max(1, PROMPTS_A_BATCH // 2), pass_over),
            )
        )
    return rates


def rate(
    scorer: YesNoScorer,
    packer: Packer,
    split: Split,
    groups: list[np.ndarray],
    batch_size: int,
    pass_over: Callable[[YesNoScorer, dict[str, torch.Tensor]], None],
) -> float:
    """Labels per second in the best of several passes over some `LABELS` labels."""
    ordered = training_order(packer.pack(split, groups), batch_size, seed=0)
    batches, labels = [], 0
    for start in range(0, len(ordered), batch_size):
        batch = dict(packer.batch(split, ordered[start : start + batch_size]))
        labels += len(batch.pop("index"))
        batches.append(batch)
        if labels >= LABELS:
            break
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        for batch in batches:
            pass_over(scorer, dict(batch))
        best = min(best, time.perf_counter() - started)
    return labels / best


def train(scorer: YesNoScorer, batch: dict[str, torch.Tensor]) -> None:
    """A forward and a backward pass."""
    labels = batch.pop("labels")
    torch.nn.functional.binary_cross_entropy_with_logits(scorer.train()(**batch), labels).backward()
    scorer.zero_grad()


@torch.inference_mode()
def score(scorer: YesNoScorer, batch: dict[str, torch.Tensor]) -> None:
    """A forward pass."""
    del batch["labels"]
    scorer.eval()(**batch)


def table(rows: list[tuple[str, float, float]]) -> list[str]:
    lines = ["| labels per second | one prompt a label | packed | times |", "|---|---:|---:|---:|"]
    return lines + [f"| {what} | {one:.1f} | {packed:.1f} | {packed / one:.1f} |" for what, one, packed in rows]


if __name__ == "__main__":
    main()
