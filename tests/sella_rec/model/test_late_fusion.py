"""The weights of late fusion are those of maximum likelihood."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from sella_rec.model.late_fusion import LateFusionError, fit_late_fusion


@pytest.fixture
def rows():
    """Labels and logits float32 [1500]; the collaborative ones small, as MF's are beside an LLM's."""
    random = np.random.default_rng(0)
    llm, collab = random.normal(0, 1, 1500), random.normal(0, 0.02, 1500)
    label = random.random(1500) < expit(0.6 * llm + 25 * collab + 0.6)
    return label.astype(np.int64), llm.astype(np.float32), collab.astype(np.float32)


def test_the_likelihood_is_at_its_maximum(rows):
    label, llm, collab = rows
    fusion = fit_late_fusion(label, llm, collab)
    missing = label - expit(fusion.llm * llm + fusion.collab * collab.astype(float) + fusion.intercept)
    # its derivative by each of the three, Bishop, Pattern Recognition and Machine Learning, (4.91)
    assert [abs(np.sum(missing * feature)) for feature in (llm, collab, 1)] == pytest.approx([0, 0, 0], abs=1e-4)


def test_rows_of_one_class_are_told_with_what_to_raise(rows):
    _, llm, collab = rows
    with pytest.raises(LateFusionError, match=r"valid_users"):
        fit_late_fusion(np.ones(1500), llm, collab)
