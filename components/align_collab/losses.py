"""Contrastive losses between projected collaborative vectors and item semantics.

Shapes: N distinct items of a batch, d hidden size. Row n of both inputs is one item: the pair is positive, every
other row of the batch a negative.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def cosine_logits(projected: torch.Tensor, semantics: torch.Tensor, temperature: float) -> torch.Tensor:
    """Cosine of every pair over the temperature, [N, N] from two [N, d]; row: projected, column: semantics."""
    return F.normalize(projected, dim=-1) @ F.normalize(semantics, dim=-1).T / temperature


def info_nce(projected: torch.Tensor, semantics: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean over items of -log(exp(s_nn) / sum_m exp(s_nm)) (van den Oord et al. 2018, arXiv 1807.03748), a scalar.

    Args:
        projected, semantics: float [N, d], rows of distinct items.
        temperature: divides the cosine.
    """
    logits = cosine_logits(projected, semantics, temperature)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def rince(
    projected: torch.Tensor, semantics: torch.Tensor, temperature: float, q: float, weight: float
) -> torch.Tensor:
    """Robust InfoNCE, mean over items of -exp(q s_nn) / q + (weight * sum_m exp(s_nm))^q / q, a scalar.

    Chuang et al. 2022, arXiv 2201.04309, equation 4; the sum holds the positive too. As q goes to 0 it becomes
    InfoNCE plus log(weight); q = 1 is symmetric and tolerates the most false pairs.

    Args:
        projected, semantics, temperature: as in `info_nce`.
        q: in (0, 1].
        weight: the paper's lambda, in (0, 1] there: density of the negatives.
    """
    logits = cosine_logits(projected, semantics, temperature)
    positive = torch.exp(q * logits.diagonal())
    everything = torch.exp(q * (torch.logsumexp(logits, dim=1) + math.log(weight)))
    return ((everything - positive) / q).mean()
