"""The fused bundle with a plan for it, and each test's own place for recommendations."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.recommend.champion import make_plan
from components.recommend.plan import BatchPlan
from sella_rec.config import Config, RecommendConfig
from sella_rec.model.bundle import load_bundle
from sella_rec.model.ranker import Ranker

SHARDS = 3


@pytest.fixture(scope="session")
def recommend_config(tiny_config: Config) -> Config:
    """Few candidates: the tests are of the batch, not of the ranking."""
    return tiny_config.model_copy(update={"recommend": RecommendConfig(top_n=4, retrieve=8)})


@pytest.fixture(scope="session")
def plan(fused: Path, recommend_config: Config) -> BatchPlan:
    return make_plan(fused, "code", recommend_config, SHARDS, "sella-rec version 1")


@pytest.fixture(scope="session")
def ranker(fused: Path) -> Ranker:
    return Ranker(load_bundle(fused, "cpu"))
