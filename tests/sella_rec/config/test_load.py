"""The configuration tree: defaults, overrides, and errors that say what to fix."""

import pytest
import yaml

from sella_rec.config import Config, ConfigError, load_config


def test_defaults_survive_the_journey_as_json():
    config = load_config(None)
    assert config == Config()
    assert Config.from_json(config.to_json()) == config
    changed = load_config(None, ["tune.lora_targets=[q_proj, v_proj]", "data.like_threshold=3.5"])
    assert Config.from_json(changed.to_json()) == changed
    assert changed.tune.lora_targets == ("q_proj", "v_proj")


def test_a_file_then_overrides(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"seed": 3, "fuse": {"learning_rate": 1e-3, "gain": 0.5}}))
    config = load_config(path, ["fuse.learning_rate=1e-4", "evaluate.max_rows_per_user=null"])
    assert (config.seed, config.fuse.learning_rate, config.fuse.gain) == (3, 1e-4, 0.5)
    assert config.evaluate.max_rows_per_user is None
    assert config.tune == Config().tune


def test_an_empty_file_is_all_defaults(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert load_config(tmp_path / "empty.yaml") == Config()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fuse.learning_rat=1", "fuse.learning_rat: unknown key; did you mean 'learning_rate'?"),
        ("colab.dim=3", "colab: unknown key; did you mean 'collab'?"),
        ("collab.mf.patienc=3", "collab.mf.patienc: unknown key; did you mean 'patience'?"),
        ("seed.zzz=1", "seed"),
        ("tune.max_labels=-1", "tune.max_labels"),
        ("tune.max_labels=many", "tune.max_labels"),
        ("collab.fused_model=svd", "collab.fused_model"),
        ("prompt.target=Like it?", "prompt.target: .*must contain {title} exactly once"),
        ("data.valid_from=soon", "data.valid_from"),
        ("data.valid_from=2015-01-01", "together"),
        ("data.encoding=cp9999", "data.encoding: .*unknown encoding; use one of Python's names"),
        ("data.encoding=base64", "data.encoding: .*unknown encoding"),
        ("data.items_header=[]", "data.items_header"),
        ("deterministic=true", "deterministic needs backbone.dtype: float32"),
        ("fuse.learning_rate", "expected section.field=value"),
    ],
)
def test_errors_name_the_field_and_the_fix(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


@pytest.mark.parametrize("value", ["item_id,title", "item_id, title", "[item_id, title]"])
def test_columns_are_named_by_a_list_or_as_text(value):
    assert load_config(None, [f"data.items_header={value}"]).data.items_header == ("item_id", "title")


@pytest.mark.parametrize(("value", "separator"), [("tab", "\t"), (r"\t", "\t"), ("space", " ")])
def test_white_space_as_separator_can_be_named(value, separator):
    assert load_config(None, [f"data.separator={value}"]).data.separator == separator


@pytest.mark.parametrize("other", ["fuse.gradient_checkpointing=true", "launch.sharded=true"])
def test_compiled_layers_are_neither_sharded_nor_computed_again(other):
    with pytest.raises(ConfigError, match=r"fuse.compile does not work with .*; turn one of them off"):
        load_config(None, ["fuse.compile=true", other])


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("tune:\n  lora_rnk: 3\n")
    with pytest.raises(ConfigError, match=r"mine.yaml: tune.lora_rnk: unknown key; did you mean 'lora_rank'"):
        load_config(path)
    path.write_text("- a list\n")
    with pytest.raises(ConfigError, match=r"mine.yaml: expected a mapping"):
        load_config(path)
    path.write_text("tune: {")
    with pytest.raises(ConfigError, match=r"mine.yaml"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"nowhere.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_value_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 1


@pytest.mark.parametrize("time", ["2026-11-23T03:00:00Z", "2026-11-23T03:00:00+00:00", "2026-11-23"])
def test_a_scheduled_time_ends_the_window(time):
    config = Config().until(time)
    assert config.data.window_until == time
    assert config.model_copy(update={"data": Config().data}) == Config()
    assert Config.from_json(config.to_json()) == config


def test_no_scheduled_time_leaves_the_window_as_configured():
    configured = load_config(None, ["data.window_until=2020-01-01"])
    assert configured.until("") is configured
    assert configured.until("2019-01-01").data.window_until == "2019-01-01"


def test_a_scheduled_time_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"window_until = '\{\{schedule\}\}': not a time; give ISO 8601"):
        Config().until("{{schedule}}")
