"""A bundle with the shape and the cost of a trained one, in seconds: what is asked of it is time, not quality."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from components.prepare_data.step import prepare_data
from sella_rec.collab.tables import CollabTables
from sella_rec.config import Config
from sella_rec.data.dataset import PreparedData
from sella_rec.llm.adapter import add_adapter, save_adapter
from sella_rec.llm.backbone import load_backbone
from sella_rec.llm.projection import Projection
from sella_rec.llm.soft_tokens import SoftTokens
from sella_rec.model.bundle import save_bundle
from sella_rec.tracking.tracker import Tracker


def untrained_bundle(config: Config, output: Path, seed: int) -> None:
    """The real LLM with fresh LoRA weights, the real catalogue, users and histories; all vectors random."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        prepare_data(config, place / "data", Tracker())
        data = PreparedData(place / "data")
        llm, _ = load_backbone(config.backbone)
        tuned = add_adapter(llm, config.tune)
        save_adapter(tuned, config.backbone, place / "adapter")
        torch.manual_seed(seed)
        save_bundle(output, config, data, place / "adapter", random_soft_tokens(tuned, config, data))


def random_soft_tokens(llm: Any, config: Config, data: PreparedData) -> SoftTokens:
    """Stage 3's special tokens of the shape for this LLM and data, on the CPU, from random vectors."""
    embeddings = llm.get_input_embeddings().weight.float()
    dim, width = config.collab.dim, embeddings.shape[1]
    users, items = (torch.randn(rows + 1, dim) / dim**0.5 for rows in (data.users.height, data.items.height))
    tables = CollabTables(
        users, items, torch.zeros(len(users)), torch.zeros(len(items)), torch.tensor(0.0),
        user_in_train=torch.ones(len(users), dtype=torch.bool), fold_in_scale=torch.tensor(1.0),
    )  # fmt: skip
    soft_tokens = SoftTokens(
        tables,
        torch.randn(len(items), width),
        Projection(dim, config.align.hidden, width),
        embeddings.norm(dim=1).mean().item(),
        config.fuse.gain,
    )
    if config.fuse.residual:
        soft_tokens.set_residual(1.0, 1.0, 0.0)
    return soft_tokens
