"""The LLM as a click model: the logit of `Yes` against `No` at each target's answer position.

Shapes: B rows, L tokens, N targets, d hidden size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from components.core.dataset import Split
from components.core.packing import Packer, Progress, block_attention_mask, group_by_history, token_batches

if TYPE_CHECKING:
    from components.core.soft_tokens import SoftTokens

# More targets than this behind one history make the quadratic attention cost more than the shared history saves.
_TARGETS_PER_ROW = 32


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
        return self.llm.get_input_embeddings().weight.device

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
        embeddings = self.llm.get_input_embeddings()(input_ids)
        if self.soft_tokens is not None:
            embeddings = self.soft_tokens(embeddings, stage_3)
        low_precision = embeddings.dtype == torch.bfloat16
        with torch.autocast(embeddings.device.type, dtype=torch.bfloat16, enabled=low_precision):
            hidden = decoder_of(self.llm)(
                inputs_embeds=embeddings,
                attention_mask=block_attention_mask(segment),
                position_ids=position_ids,
                use_cache=False,
            ).last_hidden_state
        answers = hidden[answer_row, answer_position].float()
        yes, no = self.llm.get_output_embeddings().weight[self._answer_ids].float()
        logits = answers @ (yes - no)
        if self.soft_tokens is None:
            return logits
        return self.soft_tokens.combine(logits, stage_3, answer_row)


def decoder_of(llm: Any) -> nn.Module:
    """The transformer under the LM head, adapters included."""
    base = llm.get_base_model() if hasattr(llm, "get_base_model") else llm
    return base.get_decoder()


# not inference_mode: a sharded LLM that has scored in it cannot be trained afterwards
@torch.no_grad()
def score_split(
    scorer: YesNoScorer, packer: Packer, split: Split, tokens_per_batch: int, progress: Progress | None = None
) -> np.ndarray:
    """Score every row of a split, float32 [n] logits in the split's order.

    Rows whose histories are identical share one packed row, which changes no score.
    """
    scorer.eval()
    packed = packer.pack(split, group_by_history(split, _TARGETS_PER_ROW))
    scores, done = np.zeros(len(split), dtype=np.float32), 0
    # longest first: whoever runs out of memory does so at once, and the time left is not underestimated
    for rows in reversed(token_batches(packed, tokens_per_batch)):
        batch: dict[str, Any] = dict(packer.batch(split, rows))
        batch = {name: tensor.to(scorer.device) for name, tensor in batch.items()}
        index = batch.pop("index").cpu().numpy()
        batch.pop("labels")
        scores[index] = scorer(**batch).cpu().numpy()
        done += len(index)
        if progress is not None:
            progress(done, len(split))
    return scores


def probability(logits: np.ndarray) -> np.ndarray:
    """Sigmoid, float32 [n]."""
    result: np.ndarray = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return result.astype(np.float32)
