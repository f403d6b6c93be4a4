"""Stage 1b: every item's semantics, the tuned LLM's last hidden state of a short item prompt."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from sella_rec.config import Config
from sella_rec.data.dataset import PreparedData
from sella_rec.files import atomic_output
from sella_rec.llm.adapter import load_adapter
from sella_rec.llm.prompt import PromptBuilder
from sella_rec.llm.semantics import item_semantics
from sella_rec.tracking.tracker import Tracker


def distill_items(config: Config, dataset: Path, adapter: Path, output: Path, tracker: Tracker) -> None:
    """Write `semantics.safetensors`: key `semantics`, float32 [n_items + 1, d], row 0 (padding) zeros.

    Args:
        config: sections prompt, backbone (device only: the dtype is the adapter's), distill.
        dataset: prepare-data's folder.
        adapter: tune-llm's folder.
        output: folder to write.
        tracker: receives progress.
    """
    data = PreparedData(dataset)
    llm, tokenizer, _ = load_adapter(adapter / "adapter", config.backbone.device)
    prompts = PromptBuilder(tokenizer, config.prompt, data.titles)
    token_ids = [prompts.item(item) for item in range(1, data.n_items + 1)]
    semantics = item_semantics(llm, token_ids, config.distill.batch_size, partial(tracker.progress, note="items"))
    with atomic_output(output) as folder:
        folder.mkdir()
        padded = torch.cat([torch.zeros(1, semantics.shape[1]), semantics])
        save_file({"semantics": padded}, folder / "semantics.safetensors")
