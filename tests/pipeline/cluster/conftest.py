"""A connection to the server that plays Kubeflow Pipelines, and a schedule of the real pipeline."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.cluster.client import KfpConnection, connect
from pipeline.cluster.schedule import Schedule
from pipeline.cluster.submission import Package, arguments
from sella_rec.config import Config
from tests.fakes.kfp_server import State, serve


@pytest.fixture
def server() -> Iterator[tuple[KfpConnection, State]]:
    with serve() as (endpoint, state):
        yield connect(endpoint), state
        assert not state.refusals, "a refusal that no request met"


@pytest.fixture
def wanted(tiny_config: Config, package: Package) -> Schedule:
    return Schedule("weekly", "0 0 3 * * 1", package, arguments(tiny_config, package, ["image=i:1"]))
