"""Stage 3: collaborative vectors and item semantics as input embeddings of a frozen LLM.

`<User_ID>` and `<Item_ID>` stand for projected collaborative vectors, `<Warm_ID>` for projected item semantics
(SeLLa-Rec, arXiv 2504.10107, section "hybrid projection").

Shapes: B rows, L tokens, N targets, U users, I items, H history length, k collaborative dimension, d hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from sella_rec.collab.tables import CollabTables
from sella_rec.llm.projection import Projection
from sella_rec.llm.prompt import ITEM_ID, USER_ID, WARM_ID


class SoftTokens(nn.Module):
    """The trained part of stage 3: both projections and the embedding tables; and the residual's weights.

    A projected vector is scaled to the norm of a real token embedding times a learned gain: a vector of another norm
    breaks the tuned prompt.

    Args:
        tables: the collaborative model; its vectors are copied and trained, its score (the residual) stays as it is.
        semantics: float32 [I + 1, d], row 0 zeros.
        projection: k -> d, shared by users and items.
        token_norm: mean L2 norm of the backbone's token embeddings.
        gain: the gain all tokens start from.
        semantic_bias: float32 [d], what standardized semantics add to an item's bias in `tables`; none: nothing. Kept
            for items that come later, as the semantics' mean and scale are.
    """

    semantics: torch.Tensor
    semantics_mean: torch.Tensor
    semantics_scale: torch.Tensor
    semantic_bias: torch.Tensor
    token_norm: torch.Tensor
    llm_weight: torch.Tensor
    collab_weight: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self,
        tables: CollabTables,
        semantics: torch.Tensor,
        projection: Projection,
        token_norm: float,
        gain: float,
        semantic_bias: torch.Tensor | None = None,
    ):
        super().__init__()
        self.tables = tables
        self.projection = projection
        self.warm_projection = nn.Linear(semantics.shape[1], semantics.shape[1])
        self.user_vectors = nn.Parameter(tables.user_vectors.clone())
        self.item_vectors = nn.Parameter(tables.item_vectors.clone())
        mean, scale = mean_and_scale(semantics)
        self.register_buffer("semantics", standardize(semantics, mean, scale))
        self.register_buffer("semantics_mean", mean)
        self.register_buffer("semantics_scale", scale)
        self.register_buffer("semantic_bias", torch.zeros_like(mean) if semantic_bias is None else semantic_bias)
        self.register_buffer("token_norm", torch.tensor(token_norm))
        self.gain = nn.Parameter(torch.full((3,), gain))
        for name, value in (("llm_weight", 1.0), ("collab_weight", 0.0), ("bias", 0.0)):
            self.register_buffer(name, torch.tensor(value))

    @classmethod
    def from_state(cls, state: Mapping[str, torch.Tensor]) -> SoftTokens:
        """Rebuild from what `state_dict()` gave, without gradients; the tensors are taken as they are, not copied."""
        shapes = {name: tensor.to("meta") for name, tensor in state.items()}
        tables = {name.removeprefix("tables."): t for name, t in shapes.items() if name.startswith("tables.")}
        hidden, dim = shapes["projection.0.weight"].shape
        with torch.device("meta"):
            projection = Projection(dim, hidden, shapes["semantics"].shape[1])
            made = cls(CollabTables(**tables), shapes["semantics"], projection, 1.0, 1.0)
        made.load_state_dict(state, assign=True)
        return made.requires_grad_(False).eval()

    def set_residual(self, llm: float, collab: float, intercept: float) -> None:
        """Make the final logit `llm * the LLM's + collab * collaborative logit + intercept`; 1, 0, 0 at first: none."""
        for tensor, value in ((self.llm_weight, llm), (self.collab_weight, collab), (self.bias, intercept)):
            tensor.fill_(value)

    def with_new_items(self, semantics: torch.Tensor) -> SoftTokens:
        """These tokens for a catalogue with more items, which were not trained on and have semantics only.

        Args:
            semantics: float32 [m, d], of the new items as the LLM gives them; their indices follow those known here.
        """
        rows = (semantics.to(self.semantics.device) - self.semantics_mean) / self.semantics_scale
        vectors = self.item_vectors.new_zeros(len(rows), self.item_vectors.shape[1])
        new = {"semantics": rows, "tables.item_bias": rows @ self.semantic_bias}
        new |= {"item_vectors": vectors, "tables.item_vectors": vectors}
        state = self.state_dict()
        return self.from_state(state | {name: torch.cat([state[name], more]) for name, more in new.items()})

    def user_embedding(self, user: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        """Input embeddings [B, d] of `<User_ID>`; users unseen in training are folded in from history [B, H]."""
        vectors = self.tables.user_vectors_for(user, history, self.user_vectors, self.item_vectors)
        return self._scaled(self.projection(vectors), USER_ID)

    def item_embedding(self, item: torch.Tensor) -> torch.Tensor:
        """Input embeddings [N, d] of `<Item_ID>`."""
        return self._scaled(self.projection(self.item_vectors[item]), ITEM_ID)

    def warm_embedding(self, item: torch.Tensor) -> torch.Tensor:
        """Input embeddings [N, d] of `<Warm_ID>`."""
        return self._scaled(self.warm_projection(self.semantics[item]), WARM_ID)

    def _scaled(self, projected: torch.Tensor, token: int) -> torch.Tensor:
        return nn.functional.normalize(projected, dim=-1) * self.token_norm * self.gain[token - 1]

    def forward(self, embeddings: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Token embeddings [B, L, d] with those at the special tokens' positions replaced."""
        token, item = batch["special_token"], batch["soft_item"]
        rows = (token == USER_ID).nonzero()[:, 0]
        placed = embeddings.clone()
        placed[token == USER_ID] = self.user_embedding(batch["user"][rows], batch["history"][rows]).to(placed.dtype)
        placed[token == ITEM_ID] = self.item_embedding(item[token == ITEM_ID]).to(placed.dtype)
        placed[token == WARM_ID] = self.warm_embedding(item[token == WARM_ID]).to(placed.dtype)
        return placed

    def combine(self, llm_logits: torch.Tensor, batch: Mapping[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        """Final logits [N]: the LLM's and the residual. `row` [N]: each target's row in the batch."""
        collab = self.tables.score(batch["user"][row], batch["item"], batch["history"][row])
        return self.llm_weight * llm_logits + self.collab_weight * collab + self.bias


def mean_and_scale(semantics: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean [d] and standard deviation [] of items' semantics [I + 1, d], row 0 left out."""
    items = semantics[1:]
    mean = items.mean(dim=0)
    return mean, (items - mean).std().clamp_min(1e-6)


def standardize(semantics: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Centre items' semantics [I + 1, d] by `mean` [d] and divide them by `scale` []; row 0 stays zero.

    Hidden states of an LLM share one large direction that says nothing about the item.
    """
    return torch.cat([torch.zeros_like(semantics[:1]), (semantics[1:] - mean) / scale])
