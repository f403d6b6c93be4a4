"""A summary as evaluate writes it, of arms that know the labels more and more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.evaluate.summary import ARMS, LATE_FUSION, summarize
from sella_rec.data.dataset import PreparedData


@pytest.fixture(scope="session")
def summary(genre_data: Path) -> dict[str, Any]:
    test, draw = PreparedData(genre_data).test, np.random.default_rng(0)
    logits = {arm: draw.normal(test.label * n, 1) for n, arm in enumerate((*ARMS, LATE_FUSION))}
    return summarize(test, logits, samples=100, seed=0)
