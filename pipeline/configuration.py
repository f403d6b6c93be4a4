"""docs/configuration.md, made from the configuration's own descriptions, defaults and bounds.

python -m pipeline.configuration --write
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from sella_rec.config import Config

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
_INTRODUCTION = """\
# Settings

<!-- Written by `make docs` from sella_rec/config; a test compares them. -->

A run's configuration is one tree. `--config FILE` reads YAML with the sections below as keys, `--set
section.field=value` changes single values, and what neither names has its default. An unknown key or a value out of
bounds is an error that names the field, before anything is run. The packaged configurations (`quickstart`,
`movielens-1m`, `amazon-book`, `ci`; see [pipeline/configs](../pipeline/configs)) say what they change and why;
`sella run` without `--config` is `quickstart`. What the last column calls *none* is written `null`."""
_HEADING = "| setting | default | values | meaning |\n|---|---|---|---|"
# JSON schema's bounds, as they are read.
_BOUNDS = {
    "exclusiveMinimum": "above {}",
    "minimum": "{} or more",
    "exclusiveMaximum": "below {}",
    "maximum": "at most {}",
    "pattern": "matches `{}`",
}
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false", "null": "null"}
_TYPES |= {"array": "list", "object": "mapping"}


def page() -> str:
    """The whole page, in Markdown."""
    parts = [_INTRODUCTION]
    for name, section, defaults in _sections("", Config, Config()):
        parts.append(f"## `{name}`" if name else "## Top level")
        if vars(section).get("__doc__"):
            parts.append(_escaped(inspect.cleandoc(section.__doc__)))
        parts.append("\n".join([_HEADING, *_rows(name, section, defaults)]))
    return "\n\n".join(parts) + "\n"


def _sections(name: str, section: type[BaseModel], defaults: BaseModel) -> Iterator[tuple[str, Any, BaseModel]]:
    """Name, class and default values of a section and of those within it, in the order of the tree."""
    yield name, section, defaults
    for field in section.model_fields:
        value = getattr(defaults, field)
        if isinstance(value, BaseModel):
            yield from _sections(f"{name}.{field}".lstrip("."), type(value), value)


def _rows(name: str, section: type[BaseModel], defaults: BaseModel) -> Iterator[str]:
    schema = section.model_json_schema(by_alias=False)["properties"]
    for field, known in section.model_fields.items():
        value = getattr(defaults, field)
        if isinstance(value, BaseModel):
            continue
        setting = f"{name}.{field}".lstrip(".")
        cells = (f"`{setting}`", _default(value), _values(schema[field]), _escaped(_meaning(known)))
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _default(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _values(schema: dict[str, Any]) -> str:
    """What a field takes, in words."""
    if "anyOf" in schema:
        return ", or ".join(_values(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(schema["enum"])
    bounds = [words.format(schema[key]) for key, words in _BOUNDS.items() if key in schema]
    return ", ".join([_TYPES[schema["type"]], *bounds])


def _meaning(known: FieldInfo) -> str:
    text = known.description or ""
    if not isinstance(known.validation_alias, AliasChoices):
        return text
    former = ", ".join(f"`{name}`" for name in known.validation_alias.choices[1:])
    return f"{text} (formerly {former}, still read)"


def _escaped(text: str) -> str:
    """Special tokens such as <Warm_ID> would be taken for HTML outside of code."""
    parts = text.split("`")
    return "`".join(part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace docs/configuration.md instead of printing")
    if parser.parse_args().write:
        PAGE.write_text(page())
    else:
        print(page(), end="")


if __name__ == "__main__":
    main()
