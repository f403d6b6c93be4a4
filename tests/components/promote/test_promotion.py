"""The promote step against a real registry: who becomes champion, what is said of it, and where."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from components.promote import step as module
from components.promote.page import as_json, write_page
from components.promote.step import Outcome, promote
from sella_rec.config import Config
from sella_rec.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS, ModelVersion, find
from sella_rec.tracking.runs import RUN_TAG
from sella_rec.tracking.tracker import Tracker

USERS, EACH = 120, 6
CONFIG = Config.model_validate({"evaluate": {"bootstrap_samples": 200}, "promote": {"model_name": "NAME"}})


@pytest.fixture(scope="module")
def uri(fresh_store: Callable[[], str]) -> str:
    return fresh_store()


@pytest.fixture
def config(request: pytest.FixtureRequest) -> Config:
    """With a registered model of this test's own."""
    promotion = CONFIG.promote.model_copy(update={"model_name": request.node.name})
    return CONFIG.model_copy(update={"promote": promotion})


@pytest.fixture
def client(uri: str, config: Config, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A registry whose versions have no files: uploading them is another test's matter."""
    import mlflow

    def register(client: Any, config: Config, bundle: Path, evaluation: Path) -> str:
        tags = {RUN_TAG: os.environ["KFP_RUN_ID"]}
        return str(client.create_model_version(config.promote.model_name, source="s3://models/any", tags=tags).version)

    monkeypatch.setattr(module, "register", register)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    client.create_registered_model(config.promote.model_name)
    return client


def scores(skill: float, seed: int) -> pl.Series:
    """P(like) of a model that sees the labels blurred."""
    seen = skill * (labels() - 0.5) + np.random.default_rng(seed).normal(size=USERS * EACH)
    return pl.Series(1 / (1 + np.exp(-skill * seen)))


def labels() -> np.ndarray:
    return (np.random.default_rng(0).random(USERS * EACH) < 0.5).astype(np.int8)


class Scene:
    """What the steps before promote leave behind."""

    def __init__(self, folder: Path, config: Config, monkeypatch: pytest.MonkeyPatch):
        self.folder, self.config, self.monkeypatch = folder, config, monkeypatch
        self.rows = pl.DataFrame(
            {
                "user_id": np.repeat(np.arange(USERS), EACH),
                "item_id": np.tile(np.arange(1, EACH + 1), USERS),
                "timestamp": np.arange(USERS * EACH),
                "label": labels(),
            }
        )

    def run(self, name: str, skill: float, champion: ModelVersion | None, champion_skill: float = 0.8) -> Outcome:
        """A pipeline run named `name` whose model is as good as `skill`; MF and LightGCN are always at 0.8."""
        bundle, evaluation, scored = (self.folder / name / part for part in ("bundle", "evaluation", "scored"))
        for folder in (bundle, evaluation, scored):
            folder.mkdir(parents=True, exist_ok=True)
        (bundle / "weights").write_text(f"{skill}")
        (bundle / "steps.json").write_text(name)
        items = {"item_id": [str(item) for item in range(1, EACH + 1)], "in_train": [True] * (EACH - 1) + [False]}
        pl.DataFrame(items).write_parquet(bundle / "items.parquet")
        arms = {
            "mf": scores(0.8, 1),
            "lightgcn": scores(0.8, 2),
            "text_only": scores(0.0, 3),
            "sella": scores(skill, 4),
        }
        frames = [self.rows.with_columns(arm=pl.lit(arm), score=score) for arm, score in arms.items()]
        pl.concat(frames).write_parquet(evaluation / "predictions.parquet")
        if champion:
            rows = self.rows.with_columns(score=scores(champion_skill, 5))
            rows.write_parquet(scored / "predictions.parquet")
        self.monkeypatch.setenv("KFP_RUN_ID", name)
        return promote(self.config, bundle, evaluation, scored, str(champion or ""), Tracker())


@pytest.fixture
def scene(tmp_path: Path, config: Config, client: Any, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, config, monkeypatch)


def aliases(client: Any, name: str) -> dict[str, str]:
    found = {alias: find(client, name, alias) for alias in (CHAMPION, CHALLENGER, PREVIOUS)}
    return {alias: version.number for alias, version in found.items() if version}


def test_a_first_model_that_beats_the_collaborative_arms_becomes_champion(scene, client, config):
    outcome = scene.run("first", skill=1.6, champion=None)
    assert outcome.decision.promoted
    assert {check.measured.rival for check in outcome.decision.checks} == {"", "MF", "LightGCN"}
    assert aliases(client, config.promote.model_name) == {CHAMPION: "1", CHALLENGER: "1"}


def test_a_first_model_that_does_not_leaves_the_place_empty(scene, client, config):
    outcome = scene.run("first", skill=0.3, champion=None)
    assert not outcome.decision.promoted
    assert outcome.champion == ""
    assert aliases(client, config.promote.model_name) == {CHALLENGER: "1"}


def test_only_a_better_challenger_replaces_the_champion_and_tags_say_why(scene, client, config):
    name = config.promote.model_name
    scene.run("first", skill=1.6, champion=None)
    champion = find(client, name, CHAMPION)
    worse = scene.run("second", skill=0.4, champion=champion)
    assert aliases(client, name) == {CHAMPION: "1", CHALLENGER: "2"}
    better = scene.run("third", skill=2.0, champion=champion)
    assert aliases(client, name) == {CHAMPION: "3", CHALLENGER: "3", PREVIOUS: "1"}
    for outcome, said in ((worse, "not promoted"), (better, "promoted")):
        tags = client.get_model_version(name, outcome.version).tags
        assert tags["sella.decision"] == said
        assert tags["sella.reason"] == outcome.decision.reason
        assert "UAUC against champion" in outcome.decision.reason


def test_a_step_tried_again_comes_to_the_same_end(scene, client, config):
    first = scene.run("first", skill=1.6, champion=None)
    assert scene.run("first", skill=1.6, champion=None) == first
    assert aliases(client, config.promote.model_name) == {CHAMPION: "1", CHALLENGER: "1"}


def test_the_champions_own_bundle_registered_again_is_nothing_to_promote(scene, client, config):
    """As when every step comes from the cache."""
    scene.run("first", skill=1.6, champion=None)
    again = scene.run("second", skill=1.6, champion=find(client, config.promote.model_name, CHAMPION))
    assert "the model is the same as the champion" in again.decision.reason
    assert aliases(client, config.promote.model_name) == {CHAMPION: "1", CHALLENGER: "2"}


def test_a_decision_against_a_champion_that_is_gone_promotes_nothing(scene, client, config):
    name = config.promote.model_name
    scene.run("first", skill=1.6, champion=None)
    champion = find(client, name, CHAMPION)
    scene.run("second", skill=2.0, champion=champion)
    # both began when version 1 was champion
    late = scene.run("third", skill=2.4, champion=champion)
    assert not late.decision.promoted
    assert f"from {name} version 1 to {name} version 2" in late.decision.reason
    # its numbers are kept nonetheless
    assert all(check.passed for check in late.decision.checks)
    assert aliases(client, name) == {CHAMPION: "2", CHALLENGER: "3", PREVIOUS: "1"}


def test_scores_of_other_rows_are_refused(scene, client, config):
    scene.run("first", skill=1.6, champion=None)
    champion = find(client, config.promote.model_name, CHAMPION)
    scene.run("second", skill=2.0, champion=champion)
    scene.rows = scene.rows.with_columns(pl.col("timestamp") + 1)
    stale = scene.folder / "second" / "scored"
    bundle, evaluation = (scene.folder / "third" / part for part in ("bundle", "evaluation"))
    scene.run("third", skill=2.0, champion=champion)
    with pytest.raises(ValueError, match="have different rows"):
        promote(config, bundle, evaluation, stale, str(champion), Tracker())


def test_the_page_tells_what_was_decided_and_escapes_what_it_is_given(scene, tmp_path):
    outcome = scene.run("first", skill=1.6, champion=None)
    write_page(Outcome("<b>", outcome.version, outcome.champion, outcome.decision), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<b>" not in page
    assert ">promoted<" in page
    for check in outcome.decision.checks:
        assert check.name in page
        assert check.rule in page
    assert as_json(outcome)["checks"][1]["measured"]["rival"] == "MF"
