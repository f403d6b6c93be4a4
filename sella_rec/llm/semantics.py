"""An item's semantics: the tuned LLM's last hidden state of a short prompt of its title (stage 1b)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from sella_rec.llm.scorer import decoder_of


@torch.inference_mode()
def item_semantics(
    llm: Any,
    token_ids: Sequence[list[int]],
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
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
        if progress is not None:
            progress(start + len(chosen), len(order))
    return vectors
