"""What each step is given, and what a change of a setting therefore runs again."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from components.configure.component import configure as component
from components.configure.step import STEPS, configure
from pipeline.packaged import PACKAGED
from sella_rec.config import READS, Config, ConfigError, load_config, merged
from sella_rec.data.errors import DataError


def changed(*overrides: str) -> set[str]:
    """The steps whose settings differ from the defaults'; the clock, which check-drift has, left out."""
    before, after = configure(Config(), "2026-01-01"), configure(load_config(None, list(overrides)), "2026-01-01")
    return {step for step in STEPS if before[step] != after[step]}


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("promote.tolerance=0.1", {"promote"}),
        ("evaluate.examples=3", {"evaluate"}),
        ("evaluate.bootstrap_samples=200", {"evaluate", "promote"}),
        ("retrain.policy=on-drift", {"check-drift"}),
        ("fuse.gain=0.5", {"fuse"}),
        ("align.temperature=0.3", {"align-collab"}),
        ("collab.mf.dropout=0.1", {"train-collab", "align-collab"}),
        ("distill.batch_size=8", {"distill-items", "fuse"}),
        ("tune.lora_rank=4", {"tune-llm"}),
        ("data.history_length=5", {"prepare-data", "fuse"}),
        ("promote.model_name=other", {"find-champion", "promote"}),
        ("recommend.top_n=3", set()),
    ],
)
def test_a_setting_is_given_to_the_steps_that_read_it(override, steps):
    assert changed(override) == steps


def test_a_plain_run_gives_hardly_anything():
    for step, settings in configure(Config(), "").items():
        assert json.loads(settings)["config"] == {}, step


@pytest.mark.parametrize("name", PACKAGED)
def test_a_steps_settings_take_at_most_a_kilobyte(name, monkeypatch):
    monkeypatch.setattr("components.configure.step.data_version", lambda data: "0" * 16)
    for step, settings in configure(load_config(PACKAGED[name]), "").items():
        assert len(settings.encode()) <= 1024, step


def test_together_they_hold_every_setting_of_the_training(monkeypatch):
    monkeypatch.setattr("components.configure.step.data_version", lambda data: "0" * 16)
    config = load_config(PACKAGED["movielens-1m"])
    together = {}
    for settings in configure(config, "").values():
        together = merged(together, json.loads(settings)["config"])
    assert Config.model_validate(together) == config


def test_the_time_is_now_or_what_is_given_and_in_no_other_steps_settings():
    before = datetime.now(UTC).replace(microsecond=0)
    now = datetime.fromisoformat(json.loads(configure(Config(), "")["check-drift"])["time"])
    assert before <= now <= datetime.now(UTC)
    given = configure(Config(), "2026-11-23T03:00:00Z")
    assert json.loads(given["check-drift"])["time"] == "2026-11-23T03:00:00+00:00"
    assert json.loads(given["prepare-data"])["config"]["data"]["window_until"].startswith("2026-11-23T03:00:00")
    unzoned = json.loads(configure(Config(), "2026-11-23T03:00:00")["check-drift"])["time"]
    assert unzoned == "2026-11-23T03:00:00+00:00"
    clockless = set(STEPS) - {"check-drift"}
    assert all(configure(Config(), "")[step] == configure(Config(), "")[step] for step in clockless)


def test_unchanged_data_has_the_same_version_and_changed_data_another(tmp_path):
    ratings, items = tmp_path / "ratings.csv", tmp_path / "items.csv"
    ratings.write_text("user_id,item_id,timestamp,rating\n1,1,1,5\n")
    items.write_text("item_id,title\n1,Heat\n")
    config = load_config(None, [f"data.interactions={ratings}", f"data.items={items}"])
    first = configure(config, "")["prepare-data"]
    assert configure(config, "")["prepare-data"] == first
    ratings.write_text(ratings.read_text() + "1,1,2,4\n")
    assert configure(config, "")["prepare-data"] != first


def test_what_cannot_be_used_is_named_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError, match="window_until = 'soon'"):
        configure(Config(), "soon")
    nowhere = tmp_path / "nowhere.csv"
    with pytest.raises(DataError, match="no such file"):
        configure(load_config(None, [f"data.interactions={nowhere}", f"data.items={nowhere}"]), "")


def test_the_components_outputs_are_the_steps_in_order():
    outputs = component.component_spec.outputs
    assert [name.replace("_", "-") for name in outputs] == list(STEPS)


def test_every_step_declares_what_it_reads_by_names_that_exist():
    for step, paths in READS.items():
        for path in paths:
            section = Config
            for part in path.split("."):
                assert part in section.model_fields, f"{step}: {path}"
                section = section.model_fields[part].annotation


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('{"fuse": {"gian": 0.5}}', "fuse.gian: unknown key; did you mean 'gain'?"),
        ('{"promote": {"min_users": 1}}', "promote.min_users: Input should be greater than or equal to 2"),
        ('{"deterministic": true}', "deterministic needs backbone.dtype: float32"),
        ("{fuse: 1}", "the parameter config is not JSON"),
    ],
)
def test_a_bad_configuration_ends_there_with_the_fields_name(config, said, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "SELLA_MLFLOW_TRACKING_URI", "SELLA_LOCK", "SELLA_LOGS", "SELLA_PROGRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError) as told:
        component.python_func(config, "")
    assert said in str(told.value)
