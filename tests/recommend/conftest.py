"""The fused bundle with a plan for it, and each test's own place for recommendations."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.bundle import load_bundle
from components.core.config import Config
from components.core.operation_config import RecommendConfig
from components.core.ranking import Ranker
from components.recommend.champion import make_plan
from components.recommend.plan import Plan

SHARDS = 3


@pytest.fixture(scope="session")
def recommend_config(tiny_config: Config) -> Config:
    """Few candidates: the tests are of the batch, not of the ranking."""
    return tiny_config.model_copy(update={"recommend": RecommendConfig(top_n=4, retrieve=8)})


@pytest.fixture(scope="session")
def plan(fused: Path, recommend_config: Config) -> Plan:
    return make_plan(fused, "code", recommend_config, SHARDS, "sella-rec version 1")


@pytest.fixture(scope="session")
def ranker(fused: Path) -> Ranker:
    return Ranker(load_bundle(fused, "cpu"))
