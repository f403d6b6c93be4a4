"""The step: its files and page, and the champion as a registry has it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from components.check_drift.champion import fetch_champion
from components.check_drift.decision import NAMES, Champion
from components.check_drift.step import check_drift
from components.prepare_data.step import prepare_data
from sella_rec.config import Config
from sella_rec.tracking.tracker import Tracker
from tests.registering import register_bundle

UNTIL = "2002-07-01"
VOID = {"meta", "br"}


class Balanced(HTMLParser):
    """Fails on tags that do not match, and on anything fetched from elsewhere."""

    def __init__(self, page: str):
        super().__init__()
        self.text, self._open = "", []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        assert not {"src", "href"} & dict(attrs).keys()
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += f"{data} "


@pytest.fixture(scope="module")
def then(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small ratings until a day, prepared: what the champion knows."""
    folder = tmp_path_factory.mktemp("then") / "data"
    prepare_data(tiny_config.until(UNTIL), folder, Tracker())
    return folder


def champion(reference: Path | None) -> Champion:
    return Champion("sella-rec version 3", datetime.now(UTC) - timedelta(days=2), reference)


def config_with(config: Config, **retrain: object) -> Config:
    return config.model_copy(update={"retrain": config.retrain.model_validate(retrain)})


def test_without_a_champion_it_trains_and_the_page_says_why(tiny_config, small_data, tmp_path):
    config = config_with(tiny_config, policy="on-drift")
    assert check_drift(config, small_data, None, datetime.now(UTC), tmp_path / "drift", Tracker()).retrain
    record = json.loads((tmp_path / "drift/drift.json").read_text())
    assert (record["retrain"], record["champion"], record["comparison"]) == (True, None, None)
    page = Balanced((tmp_path / "drift/report.html").read_text())
    assert "There is no champion yet" in page.text


def test_newer_interactions_are_compared_and_shown(tiny_config, then, small_data, tmp_path):
    config = config_with(tiny_config, policy="on-drift")
    decision = check_drift(config, small_data, champion(then), datetime.now(UTC), tmp_path / "drift", Tracker())
    record = json.loads((tmp_path / "drift/drift.json").read_text())
    assert (record["retrain"], record["reason"]) == (decision.retrain, decision.reason)
    rows = pl.concat([pl.read_parquet(small_data / f"{name}.parquet") for name in ("train", "valid", "test")])
    newer = rows.filter(pl.col("timestamp") >= datetime.fromisoformat(f"{UNTIL}T00:00Z").timestamp())
    assert record["comparison"]["rows"] == newer.height
    assert set(record["comparison"]["measures"]) == set(NAMES)
    page = Balanced((tmp_path / "drift/report.html").read_text())
    for text in (*NAMES.values(), "sella-rec version 3", "Likes"):
        assert text in page.text


def test_the_same_data_are_no_drift_and_a_turn_of_taste_is(tiny_config, then, small_data, tmp_path):
    config = config_with(tiny_config, policy="on-drift")
    still = check_drift(config, then, champion(then), datetime.now(UTC), tmp_path / "still", Tracker())
    assert not still.retrain
    assert "no newer interactions" in still.reason
    assert "Nothing to do" in Balanced((tmp_path / "still/report.html").read_text()).text
    turned = tmp_path / "turned"
    turned.mkdir()
    for file in small_data.iterdir():
        (turned / file.name).write_bytes(file.read_bytes())
    rows = pl.read_parquet(small_data / "reference.parquet")
    is_new = pl.col("timestamp") >= datetime.fromisoformat(f"{UNTIL}T00:00Z").timestamp()
    rows.with_columns(label=pl.when(is_new).then(0).otherwise("label").cast(pl.Int8)).write_parquet(
        turned / "reference.parquet"
    )
    decision = check_drift(config, turned, champion(then), datetime.now(UTC), tmp_path / "drift", Tracker())
    assert decision.retrain
    assert "share of likes" in decision.reason
    assert ">drift<" in (tmp_path / "drift/report.html").read_text()


def test_the_reference_comes_from_the_registry_without_the_rest_of_the_bundle(then, fresh_store, tmp_path):
    store = fresh_store()
    version = register_bundle(store, then, tmp_path)
    (tmp_path / "fetched").mkdir()
    found = fetch_champion(version, tmp_path / "fetched")
    assert found.label == "sella-rec version 1"
    assert 0 <= found.age(datetime.now(UTC)) < 0.01
    assert {path.name for path in found.reference.iterdir()} == {"reference.parquet", "reference.json", "items.parquet"}
    assert (found.reference / "reference.parquet").read_bytes() == (then / "reference.parquet").read_bytes()

    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "items.parquet").write_bytes((then / "items.parquet").read_bytes())
    assert fetch_champion(register_bundle(store, bare, tmp_path), tmp_path / "fetched").reference is None
    assert fetch_champion(None, tmp_path) is None
