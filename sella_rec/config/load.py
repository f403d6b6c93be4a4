"""Reads the configuration: a YAML file, and single values that override it."""

from __future__ import annotations

import difflib
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import yaml
from pydantic import AliasChoices, TypeAdapter, ValidationError

from sella_rec.config.base import ConfigError
from sella_rec.config.tree import Config

# YAML's words for no value
_NULL = {"", "~", "null", "Null", "NULL"}


def load_config(path: str | Path | None, overrides: list[str] | None = None) -> Config:
    """Read a YAML file (none: all defaults) and apply `section.field=value` overrides.

    Raises:
        ConfigError: unknown key (with the nearest known one), wrong type or range, malformed override.
    """
    tree: Any = {}
    if path is not None:
        try:
            tree = yaml.safe_load(Path(path).read_text()) or {}
        except Exception as error:  # beside its own, PyYAML lets through what its types raise: a date 2020-99-99
            raise ConfigError(f"{path}: {error}") from error
        if not isinstance(tree, dict):
            raise ConfigError(f"{path}: expected a mapping of sections at the top level, got {type(tree).__name__}")
    for override in overrides or []:
        _apply_override(tree, override)
    return parse_config(tree, path)


def parse_config(tree: Any, path: str | Path | None = None, of_one_step: bool = False) -> Config:
    """A configuration from nested values; what they leave out has its default.

    Args:
        path: the file that they are from, for messages.
        of_one_step: what settings have to do with each other was checked when all of them were there.

    Raises:
        ConfigError: unknown key (with the nearest known one), wrong type or range.
    """
    try:
        return Config.model_validate(tree, context={"of_one_step": of_one_step})
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(e, path) for e in error.errors())) from error


def _apply_override(tree: dict[str, Any], override: str) -> None:
    dotted, equals, value = override.partition("=")
    if not equals or not dotted:
        raise ConfigError(f"--set {override}: expected section.field=value, for example fuse.learning_rate=1e-4")
    *sections, field = dotted.split(".")
    known: Any = Config
    for section in sections:
        known = _field_type(known, section)
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(
                f"--set {override}: {section} is a value, not a section; use the name of a section before the dot"
            )
    field = _present_name(known, field)
    tree[field] = _value(_field_type(known, field), value)


def _value(kind: Any, text: str) -> Any:
    """What the text of an override is for a field of type `kind`: itself, none, or the list or mapping in YAML."""
    if kind is None:
        return text
    if NoneType in get_args(kind) and text.strip() in _NULL:
        return None
    try:
        TypeAdapter(kind).validate_python(text)
    except ValidationError:
        return _container(text)
    return text


def _container(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
        if isinstance(value, list):
            # what is in it is text as it stands, as outside of lists
            return yaml.load(text, yaml.BaseLoader)
    except Exception:  # PyYAML lets through what its types raise; then the field's type says what it wants
        return text
    return value if isinstance(value, dict) else text


def _field_type(section: Any, field: str) -> Any:
    """The type of a section's field; none if there is no such field."""
    known = getattr(section, "model_fields", {}).get(field)
    return known.annotation if known else None


def _present_name(section: Any, field: str) -> str:
    """What a field is called now, so that an override by its former name replaces the file's value."""
    for name, known in getattr(section, "model_fields", {}).items():
        if isinstance(known.validation_alias, AliasChoices) and field in known.validation_alias.choices:
            return str(name)
    return field


def _explain(error: Any, path: str | Path | None) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "config"
    prefix = f"{path}: " if path else ""
    if error["type"] != "extra_forbidden":
        return f"{prefix}{where}: {error['msg']} (got {error.get('input')!r})"
    section: Any = Config
    for part in error["loc"][:-1]:
        section = section.model_fields[part].annotation
    known = list(section.model_fields)
    near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
    return f"{prefix}{where}: unknown key; {hint}"
