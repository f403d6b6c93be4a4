"""The contrastive losses against loops written from the papers' formulas."""

import math

import pytest
import torch

from components.align_collab.losses import info_nce, rince


def pairs(seed=0, n=7, d=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.randn(n, d, generator=generator)


def similarities(projected, semantics, temperature):
    """s[n][m] = cos(projected_n, semantics_m) / temperature, by hand."""

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    return [[cosine(a, b) / temperature for b in semantics.tolist()] for a in projected.tolist()]


def test_info_nce_is_the_formula():
    projected, semantics = pairs()
    s = similarities(projected, semantics, 0.2)
    expected = sum(-math.log(math.exp(row[n]) / sum(map(math.exp, row))) for n, row in enumerate(s)) / len(s)
    assert info_nce(projected, semantics, 0.2).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("q", "weight"), [(0.01, 0.1), (0.5, 0.025), (1.0, 1.0)])
def test_rince_is_the_formula(q, weight):
    projected, semantics = pairs()
    s = similarities(projected, semantics, 0.5)
    terms = [-math.exp(q * row[n]) / q + (weight * sum(map(math.exp, row))) ** q / q for n, row in enumerate(s)]
    assert rince(projected, semantics, 0.5, q, weight).item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_rince_becomes_info_nce_as_q_vanishes():
    projected, semantics = (tensor.double() for tensor in pairs())
    limit = info_nce(projected, semantics, 0.2) + math.log(0.1)
    assert rince(projected, semantics, 0.2, 1e-7, 0.1).item() == pytest.approx(limit.item(), rel=1e-5)


@pytest.mark.parametrize("loss", [lambda p, s: info_nce(p, s, 0.2), lambda p, s: rince(p, s, 0.2, 0.01, 0.1)])
def test_matching_pairs_lose_less_and_length_does_not_matter(loss):
    projected, semantics = pairs()
    assert loss(semantics, semantics) < loss(projected, semantics)
    torch.testing.assert_close(loss(projected * 7, semantics * 0.3), loss(projected, semantics))
