"""What every part asks the LLM about: the packaged ratings and titles, with the packaged LLM's tokenizer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from components.prepare_data.step import prepare_data
from pipeline.packaged import PACKAGED
from sella_rec.collab.tables import CollabTables
from sella_rec.config import Config, load_config
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.llm.backbone import embedded_folder
from sella_rec.llm.projection import Projection
from sella_rec.llm.prompt import PromptBuilder
from sella_rec.llm.soft_tokens import SoftTokens
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


def random_soft_tokens(llm: Any, world: World) -> SoftTokens:
    """The special tokens of stage 3 for this LLM, on its device, from random vectors."""
    config, data = world.config, world.data
    embeddings = llm.get_input_embeddings().weight
    dim, width = config.collab.dim, embeddings.shape[1]
    users, items = (torch.randn(n + 1, dim) / dim**0.5 for n in (data.n_users, data.n_items))
    tables = CollabTables(
        users, items, torch.zeros(len(users)), torch.zeros(len(items)), torch.tensor(0.0),
        user_in_train=torch.ones(len(users), dtype=torch.bool), fold_in_scale=torch.tensor(1.0),
    )  # fmt: skip
    norm = embeddings[: world.prompts.yes_id].float().norm(dim=1).mean().item()
    projection = Projection(dim, config.align.hidden, width)
    made = SoftTokens(tables, torch.randn(len(items), width), projection, norm, config.fuse.gain)
    return made.to(embeddings.device)


def questions(data: PreparedData, histories: int, candidates: int, seed: int) -> Split:
    """Rows of as many test rows' users and histories, each with random candidates."""
    random = np.random.default_rng(seed)
    asked = data.test.take(np.flatnonzero(data.test.history.all(axis=1))[:: max(1, len(data.test) // histories)])
    rows = asked.take(np.repeat(np.arange(min(histories, len(asked))), candidates))
    items = np.concatenate(
        [1 + random.choice(data.n_items, candidates, replace=False) for _ in range(len(rows) // candidates)]
    )
    return Split(rows.user, items.astype(rows.item.dtype), rows.label, rows.timestamp, rows.history, rows.warm)
