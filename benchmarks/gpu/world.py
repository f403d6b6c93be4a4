"""What every part asks the LLM about: the packaged ratings and titles, with the packaged LLM's tokenizer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from components.prepare_data.step import prepare_data
from pipeline.packaged import PACKAGED
from sella_rec.config import Config, load_config
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.llm.backbone import embedded_folder
from sella_rec.llm.prompt import PromptBuilder
from sella_rec.tracking.tracker import Tracker


@dataclass(frozen=True)
class World:
    """The quickstart's configuration, its data, its prompts, and a folder to write in."""

    config: Config
    data: PreparedData
    prompts: PromptBuilder
    folder: Path


@contextmanager
def world() -> Iterator[World]:
    """Prepared in a folder that lasts as long as the context."""
    config = load_config(PACKAGED["quickstart"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_data(config, folder / "data", Tracker())
        data = PreparedData(folder / "data")
        # every shape's vocabulary is at least as large as this tokenizer's
        tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
        yield World(config, data, PromptBuilder(tokenizer, config.prompt, data.titles), folder)


def questions(data: PreparedData, histories: int, candidates: int, seed: int) -> Split:
    """Rows of as many test rows' users and histories, each with random candidates."""
    random = np.random.default_rng(seed)
    asked = data.test.take(np.flatnonzero(data.test.history.all(axis=1))[:: max(1, len(data.test) // histories)])
    rows = asked.take(np.repeat(np.arange(min(histories, len(asked))), candidates))
    items = np.concatenate(
        [1 + random.choice(data.n_items, candidates, replace=False) for _ in range(len(rows) // candidates)]
    )
    return Split(rows.user, items.astype(rows.item.dtype), rows.label, rows.timestamp, rows.history, rows.warm)
