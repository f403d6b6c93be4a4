"""prepare-data as a pod calls it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from components.configure.step import configure
from components.prepare_data.component import prepare_data


@pytest.fixture
def prepare(tiny_config, tmp_path, monkeypatch) -> Any:
    for name in ("MLFLOW_TRACKING_URI", "SELLA_MLFLOW_TRACKING_URI", "SELLA_LOCK", "SELLA_LOGS", "SELLA_PROGRESS"):
        monkeypatch.delenv(name, raising=False)

    def call(window_until: str) -> Path:
        output = SimpleNamespace(path=str(tmp_path / (window_until or "all").replace(":", "-")))
        settings = configure(tiny_config, window_until)["prepare-data"]
        prepare_data.python_func(settings, output)
        return Path(output.path)

    return call


def test_a_scheduled_run_reads_no_row_at_or_after_its_time(prepare):
    times = timestamps(prepare(""))
    middle = int(times.median())
    # as Kubeflow Pipelines writes it
    folder = prepare(datetime.fromtimestamp(middle, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    kept = timestamps(folder)
    assert len(kept) == (times < middle).sum()
    assert kept.max() < middle
    counts = json.loads((folder / "report.json").read_text())
    assert counts["rows_outside_window"] == (times >= middle).sum()


def timestamps(folder: Path) -> pl.Series:
    return pl.concat([pl.read_parquet(folder / f"{name}.parquet")["timestamp"] for name in ("train", "valid", "test")])
