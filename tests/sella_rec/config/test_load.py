"""The configuration tree: defaults, overrides, and errors that say what to fix."""

from types import NoneType
from typing import Any, get_args

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

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


def fields(section: Any = Config, prefix: str = "") -> dict[str, Any]:
    """Every setting by its whole name, with its type."""
    found = {}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= {f"{prefix}{name}": kind, **fields(kind, f"{prefix}{name}.")}
        else:
            found[f"{prefix}{name}"] = kind
    return found


FIELDS = fields()
ODD = ["*x", "*.csv", "&x", "&a [*a]", "!x", "!!timestamp x", "!!bool x", "{", "[1", "a: b", "@x", "%x", "`x", "null"]
ODD += [
    "~",
    "",
    " ",
    "yes",
    "Off",
    "2020-99-99",
    "2016-01-01",
    "12:30:00",
    "1e5",
    "007",
    "0x1F",
    "1_000",
    ".inf",
    "nan",
]
ODD += [
    "- a",
    "? a",
    "| a",
    "> a",
    "#x",
    "x #y",
    "'",
    '"',
    "''",
    "'a'",
    "\\x",
    "\x00",
    "\x85",
    "\udcff",
    "a\nb",
]
ODD += [
    "{1: 2}",
    "{[1]: 2}",
    "<<: 1",
    "=",
    "a=b",
    "---",
    "...",
    "\t",
    "é",
    "1" * 5000,
    "True",
    "-1",
    "[1, 2]",
    "{a: b}",
]
VALUES = st.one_of(st.sampled_from(ODD), st.text(max_size=20), st.text("*&!{}[]:,'\"%@`#|>-?~ =a1.", max_size=8))


def attempt(name: str, text: str) -> str:
    """What is said against a value; nothing where it is taken."""
    try:
        load_config(None, [f"{name}={text}"])
    except ConfigError as error:
        return str(error)
    return ""


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(FIELDS)), VALUES)
def test_no_value_of_the_command_line_is_a_traceback(name, text):
    attempt(name, text)


@pytest.mark.parametrize("name", {str(kind): name for name, kind in FIELDS.items()}.values())
def test_each_odd_text_is_taken_or_refused_by_each_type(name):
    said = [attempt(name, text) for text in ODD]
    assert FIELDS[name] in (str, str | None) or any(said)


def test_endless_brackets_are_refused_too():
    assert attempt("tune.lora_targets", "[" * 600).startswith("tune.lora_targets: Input should be a valid tuple")


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["data.interactions", "data.columns.user_id", "promote.model_name", "data.reject_title"]), VALUES
)
@example("data.interactions", "*.csv")
@example("data.interactions", "2016-01-01")
def test_a_text_setting_is_exactly_the_text(name, text):
    if name == "promote.model_name":
        text = "".join(letter for letter in text if letter not in "/:'\n") or "x"
    if "\udcff" in text or (NoneType in get_args(FIELDS[name]) and text.strip() in ("", "~", "null")):
        return
    value: Any = load_config(None, [f"{name}={text}"])
    for part in name.split("."):
        value = getattr(value, part)
    assert value == text


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("seed=010", 10),
        ("seed=1_000", 1000),
        ("fuse.learning_rate=1e-4", 1e-4),
        ("deterministic=off", False),
        ("evaluate.max_rows_per_user=~", None),
        ("data.window_from=", None),
        ("tune.lora_targets=[q_proj]", ("q_proj",)),
        ("tune.lora_targets=[007, null, yes, 2020-01-01]", ("007", "null", "yes", "2020-01-01")),
        ("data.columns={user_id: '*u'}", "*u"),
    ],
)
def test_a_value_is_of_its_settings_type(override, value):
    found: Any = load_config(None, [override])
    for part in override.partition("=")[0].split("."):
        found = getattr(found, part)
    assert getattr(found, "user_id", found) == value


@pytest.mark.parametrize("override", ["seed=yes", "seed=1e5", "seed=[1", "fuse.learning_rate={", "deterministic=*x"])
def test_a_value_of_another_type_is_refused_as_it_was_given(override):
    name, _, text = override.partition("=")
    with pytest.raises(ConfigError) as raised:
        load_config(None, [override])
    assert str(raised.value).startswith(f"{name}: ")
    assert f"(got {text!r})" in str(raised.value)


def test_a_file_with_a_date_that_is_none_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("data: {window_from: 2020-99-99}")
    with pytest.raises(ConfigError, match=r"mine\.yaml: month must be in"):
        load_config(path)
    path.write_bytes(b"seed: \xff")
    with pytest.raises(ConfigError, match=r"mine\.yaml: 'utf-8' codec"):
        load_config(path)
