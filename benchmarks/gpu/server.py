"""The model server with the packaged LLM under 1, 4 and 16 clients."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.gpu.shapes import Row, Scale
from benchmarks.online import CANDIDATES, CLIENTS, Questions, registry, server, under_load
from benchmarks.untrained import untrained_bundle
from pipeline.packaged import PACKAGED
from sella_rec.config import load_config


def serve(scale: Scale) -> Iterator[Row]:
    """Requests of 20 candidates each, one after the other from each client, on loopback."""
    config = load_config(PACKAGED["quickstart"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        untrained_bundle(config, folder / "bundle", config.seed)
        asked = Questions(folder / "bundle")
        registry(folder)
        with server(folder, asked):
            for clients in CLIENTS[:1] if scale.rehearsal else CLIENTS:
                seen = under_load(asked, clients, partial(time.sleep, scale.seconds))
                p50, p95, p99 = np.percentile(seen.seconds, [50, 95, 99]) * 1e3
                rate = len(seen.seconds) * CANDIDATES / seen.lasted
                quantiles = {"p50 ms": p50, "p95 ms": p95, "p99 ms": p99}
                yield f"135M, clients: {clients}", quantiles | {"candidates/s": rate, "failed": seen.failed}
