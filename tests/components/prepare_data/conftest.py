"""Whatever error a test of prepare-data provokes, what it suggests is pasted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from components.prepare_data import step, validate
from sella_rec.config import Config, DataConfig
from sella_rec.data.errors import DataError
from tests.components.prepare_data.pasting import hold_to_promise


@pytest.fixture(autouse=True)
def suggestions_are_pasted(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Wrap `load` and `prepare_data`, wherever they were imported to."""
    pasting = False

    def pasted(act: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(act)
        def call(config: Config | DataConfig, *rest: Any) -> Any:
            nonlocal pasting
            try:
                return act(config, *rest)
            except DataError as error:
                if not pasting:
                    pasting = True
                    folder = tmp_path_factory.mktemp("pasted")
                    if isinstance(config, Config):
                        hold_to_promise(error, config, lambda new: act(new, folder / "out", *rest[1:]), folder)
                    else:
                        hold_to_promise(error, Config(data=config), lambda new: act(new.data), folder)
                    pasting = False
                raise

        return call

    for name, function in (("load", validate.load), ("prepare_data", step.prepare_data)):
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get(name) is function:
                monkeypatch.setattr(module, name, pasted(function))


@pytest.fixture
def small(tmp_path: Path) -> Callable[[str, str], DataConfig]:
    """Writes the two tables as CSV and names them."""

    def write(rows: str, items: str) -> DataConfig:
        for name, text in (("ratings.csv", rows), ("items.csv", items)):
            (tmp_path / name).write_text(text)
        return DataConfig(interactions=str(tmp_path / "ratings.csv"), items=str(tmp_path / "items.csv"))

    return write
