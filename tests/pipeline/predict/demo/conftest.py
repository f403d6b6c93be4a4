"""The application over a real bundle with one title that is hostile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from fastapi import FastAPI

from pipeline.predict.demo.app import build_app
from sella_rec.model.bundle import load_bundle
from sella_rec.model.ranker import Ranker

HOSTILE = "<img src=x onerror=document.title='broken'>"


@pytest.fixture(scope="session")
def ranker(fused: Path) -> Ranker:
    bundle = load_bundle(fused)
    hostile = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(HOSTILE)).otherwise("title").alias("title")
    return Ranker(replace(bundle, items=bundle.items.with_columns(hostile)))


@pytest.fixture(scope="session")
def app(ranker: Ranker) -> FastAPI:
    return build_app(ranker, "a tiny model", retrieve=12)
