"""The LLM as a click model: the logit of `Yes` against `No` at each target's answer position.

Shapes: B rows, L tokens, N targets, d hidden size.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sella_rec.llm.backbone import BackboneError
from sella_rec.llm.packing import block_attention_mask

if TYPE_CHECKING:
    from transformers import Cache

    from sella_rec.llm.soft_tokens import SoftTokens


class YesNoScorer(nn.Module):
    """Scores packed batches; the LM head is applied at answer positions only, and only its `Yes` and `No` rows.

    Args:
        llm: a Hugging Face causal LM, with or without a peft adapter.
        yes_id: token id of `Yes` as the answer.
        no_id: token id of `No` as the answer.
        soft_tokens: replaces the special tokens' embeddings and adds the residual score (stage 3).
    """

    def __init__(self, llm: Any, yes_id: int, no_id: int, soft_tokens: SoftTokens | None = None):
        super().__init__()
        self.llm = llm
        self.soft_tokens = soft_tokens
        self._answer_ids = [yes_id, no_id]

    @property
    def device(self) -> torch.device:
        device: torch.device = self.llm.get_input_embeddings().weight.device
        return device

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        segment: torch.Tensor,
        answer_row: torch.Tensor,
        answer_position: torch.Tensor,
        **stage_3: torch.Tensor,
    ) -> torch.Tensor:
        """Logit of `Yes` minus logit of `No`, float32 [N]; P(like) is its sigmoid, the softmax over the two."""
        tokens = {"input_ids": input_ids, "position_ids": position_ids}
        hidden = self.hidden_states(stage_3 | tokens, block_attention_mask(segment))
        return self.logits(hidden[answer_row, answer_position], stage_3, answer_row)

    def hidden_states(
        self, batch: Mapping[str, torch.Tensor], mask: torch.Tensor, cache: Cache | None = None
    ) -> torch.Tensor:
        """The last layer's, [B, L, d].

        Args:
            batch: as `PackedBatch`: input_ids, position_ids, and what the special tokens are made of.
            mask: bool [B, 1, L, cached + L], true where attention is allowed.
            cache: keys and values of what stands before; those of this batch are added.
        """
        embeddings = self.llm.get_input_embeddings()(batch["input_ids"])
        if self.soft_tokens is not None:
            embeddings = self.soft_tokens(embeddings, batch)
        decoder: Any = decoder_of(self.llm)
        if decoder.config._attn_implementation == "eager":
            # which would add a boolean mask to its logits as it is
            mask = _additive(mask, embeddings.dtype)
        low_precision = embeddings.dtype == torch.bfloat16
        # the cache tells layers apart by their number, so each would be compiled for itself
        stance = torch.compiler.set_stance("default" if cache is None else "force_eager")
        with stance, torch.autocast(embeddings.device.type, dtype=torch.bfloat16, enabled=low_precision):
            hidden: torch.Tensor = decoder(
                inputs_embeds=embeddings,
                attention_mask=mask,
                position_ids=batch["position_ids"],
                past_key_values=cache,
                use_cache=cache is not None,
            ).last_hidden_state
        return hidden

    def logits(self, answers: torch.Tensor, batch: Mapping[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        """Logits float32 [N] from hidden states [N, d] at answer positions; `row` [N]: each target's in the batch."""
        yes, no = self.llm.get_output_embeddings().weight[self._answer_ids].float()
        logits: torch.Tensor = answers.float() @ (yes - no)
        if self.soft_tokens is None:
            return logits
        return self.soft_tokens.combine(logits, batch, row)


def compile_layers(llm: Any) -> None:
    """Mark the layers of an LLM's decoder to be compiled on first use, once for all layers and all lengths.

    Raises:
        BackboneError: there is no C++ compiler.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise BackboneError(
            f"tune.compile and fuse.compile need a C++ compiler, and {compiler} was not found: install one, name it in "
            "the variable CXX, or turn both off"
        )
    decoder: Any = decoder_of(llm)
    if decoder.device.type == "cpu":
        # the backward pass of torch's flash kernel for the CPU would be a third of a training step
        decoder.set_attn_implementation("eager")
    for layer in decoder.layers:
        layer.compile(dynamic=True)


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What to add to attention's logits: 0 where `mask` is true, the lowest number elsewhere."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)


def decoder_of(llm: Any) -> nn.Module:
    """The transformer under the LM head, adapters included."""
    base = llm.get_base_model() if hasattr(llm, "get_base_model") else llm
    decoder: nn.Module = base.get_decoder()
    return decoder


def probability(logits: np.ndarray) -> np.ndarray:
    """Sigmoid, float32 [n]."""
    result: np.ndarray = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return result.astype(np.float32)
