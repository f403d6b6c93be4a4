"""A step reads what it declares, and nothing else."""

from __future__ import annotations

import pytest

from sella_rec.config import ConfigError, UndeclaredSettingError, load_config, merged, settings_of, step_config


def test_a_declared_setting_has_its_value_or_its_default():
    config = load_config(None, ["tune.lora_rank=4", "backbone.dtype=float32", "promote.tolerance=0.2"])
    given = settings_of(config, "tune-llm")
    assert given == {"tune": {"lora_rank": 4}, "backbone": {"dtype": "float32"}}
    view = step_config("tune-llm", given)
    assert view.tune == config.tune
    assert view.backbone.dtype == "float32"
    assert view.evaluate.tokens_per_batch == config.evaluate.tokens_per_batch


@pytest.mark.parametrize(
    ("step", "read"),
    [
        ("tune-llm", lambda config: config.fuse),
        ("tune-llm", lambda config: config.evaluate.bootstrap_samples),
        ("fuse", lambda config: config.align.weight),
        ("fuse", lambda config: config.collab.lightgcn.layers),
        ("find-champion", lambda config: config.promote.tolerance),
        ("prepare-data", lambda config: config.seed),
    ],
)
def test_reading_what_is_not_declared_is_an_error(step, read):
    with pytest.raises(UndeclaredSettingError, match=step):
        read(step_config(step, {}))


def test_settings_that_go_together_are_judged_where_all_of_them_are():
    config = load_config(None, ["deterministic=true", "backbone.dtype=float32"])
    assert step_config("train-collab", settings_of(config, "train-collab")).deterministic


def test_an_unknown_setting_is_an_error():
    with pytest.raises(ConfigError, match=r"tune\.lora_rang: unknown key; did you mean .lora_rank"):
        step_config("tune-llm", {"tune": {"lora_rang": 4}})


def test_two_steps_settings_are_one_tree():
    assert merged({"a": {"b": 1}, "c": 2}, {"a": {"d": 3}, "c": 2}) == {"a": {"b": 1, "d": 3}, "c": 2}
