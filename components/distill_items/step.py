"""Stage 1b: every item's semantics, the tuned LLM's last hidden state of a short item prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from components.core.adapter import load_adapter
from components.core.config import Config
from components.core.dataset import PreparedData
from components.core.paths import atomic_output
from components.core.prompt import PromptBuilder
from components.core.scorer import decoder_of
from components.core.tracking import Tracker


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
    semantics = item_semantics(llm, token_ids, config.distill.batch_size, tracker)
    with atomic_output(output) as folder:
        folder.mkdir()
        padded = torch.cat([torch.zeros(1, semantics.shape[1]), semantics])
        save_file({"semantics": padded}, folder / "semantics.safetensors")


@torch.inference_mode()
def item_semantics(llm: Any, token_ids: Sequence[list[int]], batch_size: int, tracker: Tracker) -> torch.Tensor:
    """Last hidden state at each prompt's last token, float32 [n, d] on the CPU, whatever the batch or its padding."""
    device = llm.get_input_embeddings().weight.device
    vectors = torch.empty(len(token_ids), llm.config.hidden_size)
    order = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        lengths = torch.tensor([len(token_ids[i]) for i in chosen])
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(token_ids[i]) for i in chosen], batch_first=True)
        # causal attention and padding on the right: no real token ever sees a padded one, so no mask is needed
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=llm.dtype == torch.bfloat16):
            hidden = decoder_of(llm)(input_ids=ids.to(device), use_cache=False).last_hidden_state
        vectors[chosen] = hidden[torch.arange(len(chosen)), lengths - 1].float().cpu()
        tracker.progress(start + len(chosen), len(order), "items")
    return vectors
