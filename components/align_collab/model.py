"""The collaborative model and the item semantics under one joint loss, and how well the two agree.

Shapes: I items, N items of a batch, d hidden size of the LLM, k collaborative dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from components.align_collab.losses import info_nce, rince
from sella_rec.collab.models import CollabModel
from sella_rec.collab.tables import CollabTables
from sella_rec.config import AlignConfig
from sella_rec.data.dataset import Split
from sella_rec.llm.projection import Projection

# Items compared with all others at once: bounds memory at this times I floats.
_ITEMS_A_PASS = 1024


class AlignedModel(nn.Module):
    """Joint loss of stage 2 (SeLLa-Rec, arXiv 2504.10107): L_collab + weight * L_align.

    Ours, not the paper's: with `semantic_bias`, an item's bias is the one learned from its ratings plus a linear
    function of its semantics, so that an item with few ratings or none is scored by what its title says.

    Args:
        collab: warm-started collaborative model.
        semantics: float32 [I + 1, d], row 0 zeros; compared less their mean, because an LLM's hidden states share one
            large direction that says nothing about the item and brings every pair's cosine near one.
        config: the align section.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, collab: CollabModel, semantics: torch.Tensor, config: AlignConfig):
        super().__init__()
        self.config = config
        self.collab = collab
        self.projection = Projection(collab.item.shape[1], config.hidden, semantics.shape[1])
        self.register_buffer("mean", semantics[1:].mean(dim=0))
        self.register_buffer("scale", (semantics[1:] - self.mean).std().clamp_min(1e-6))
        self.semantics = nn.Parameter(semantics.clone(), requires_grad=config.train_semantics)
        self.semantic_bias = nn.Linear(semantics.shape[1], 1, bias=False).requires_grad_(config.semantic_bias)
        nn.init.zeros_(self.semantic_bias.weight)

    def centred_semantics(self, items: torch.Tensor) -> torch.Tensor:
        """Semantics less the mean item's, [N, d], of items int64 [N], with gradient where they are trained."""
        return F.embedding(items, self.semantics) - self.mean

    def bias_of(self, items: torch.Tensor) -> torch.Tensor:
        """What semantics add to the biases of items int64 [N], [N]."""
        features = self.centred_semantics(items) / self.scale
        bias: torch.Tensor = self.semantic_bias(features)[:, 0]
        return bias

    @torch.no_grad()
    def tables(self, train: Split) -> CollabTables:
        """The collaborative model frozen as it is now, item biases with what semantics add to them."""
        tables = self.collab.tables(train)
        tables.item_bias[1:] += self.bias_of(torch.arange(1, len(tables.item_bias), device=self.mean.device))
        return tables

    def losses(self, user: torch.Tensor, item: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """L_collab over rows, int64 and float32 [B] each, and L_align over at most `align_items` of their items."""
        vectors = self.collab.vectors()
        scores = self.collab.score(vectors, user, item) + self.bias_of(item)
        collab = F.binary_cross_entropy_with_logits(scores, label)
        distinct = item.unique()
        chosen = distinct[torch.randperm(len(distinct))[: self.config.align_items].to(item.device)]
        return collab, self.alignment_loss(vectors[1], chosen)

    def alignment_loss(self, item_vectors: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """L_align between the projections and the semantics of distinct items, int64 [N]; a scalar."""
        projected = self.projection(F.embedding(items, item_vectors))
        semantics = self.centred_semantics(items)
        if self.config.loss == "rince":
            return rince(projected, semantics, self.config.temperature, self.config.rince_q, self.config.rince_lambda)
        return info_nce(projected, semantics, self.config.temperature)

    @torch.no_grad()
    def pairs(self, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Projected vectors and centred semantics of items, int64 [N]: two tensors [N, d] without gradient."""
        return self.projection(self.collab.vectors()[1][items]), self.centred_semantics(items)


@torch.no_grad()
def alignment(projected: torch.Tensor, semantics: torch.Tensor, measured: torch.Tensor) -> dict[str, float]:
    """How well projected vectors [N, d] match their items' semantics [N, d].

    Args:
        measured: rows to take the mean over, int64 [M]; their rivals are all N.

    Returns:
        cosine: mean cosine of the pairs; top1, top10: share of items whose own semantics is the nearest, or among
        the ten nearest, of all N by cosine. Ties count against it.
    """
    projected, semantics = F.normalize(projected, dim=-1), F.normalize(semantics, dim=-1)
    own, nearer = [], []
    for rows in measured.split(_ITEMS_A_PASS):
        cosine = projected[rows] @ semantics.T
        own.append(cosine.gather(1, rows[:, None]))
        nearer.append((cosine >= own[-1]).sum(dim=1) - 1)  # the pair itself is not a rival
    rank = torch.cat(nearer)
    return {
        "cosine": float(torch.cat(own).mean()),
        "top1": float((rank < 1).float().mean()),
        "top10": float((rank < 10).float().mean()),
    }
