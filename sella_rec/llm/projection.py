"""The projection from collaborative space into the LLM's hidden space (SeLLa-Rec, arXiv 2504.10107, `Proj_C->L`).

Stage 2 trains it by the alignment loss, stage 3 starts from it.
"""

from __future__ import annotations

from torch import nn


class Projection(nn.Sequential):
    """Linear(k -> hidden), GELU, Linear(hidden -> d): float32 [..., k] to [..., d].

    Args:
        dim: k, the collaborative dimension.
        hidden: width of the hidden layer; the paper's is 1024.
        out: d, the LLM's hidden size.
    """

    def __init__(self, dim: int, hidden: int, out: int):
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, out))
