"""docs/configuration.md is what the configuration says of itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.configuration import PAGE, page
from sella_rec.config import Config


def settings(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        # a mapping with dotted keys is a value: the resources of a node
        section = isinstance(value, Mapping) and "resources" not in name
        yield from settings(value, f"{prefix}{name}.") if section else [f"{prefix}{name}"]


def row(setting: str) -> str:
    return next(line for line in page().splitlines() if line.startswith(f"| `{setting}` |"))


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "docs/configuration.md is stale: run `make docs`"


def test_the_page_has_every_setting_once_in_the_order_of_the_tree() -> None:
    listed = re.findall(r"^\| `([\w.]+)` \|", page(), re.MULTILINE)
    assert sorted(listed) == sorted(settings(Config().model_dump()))
    sections = re.findall(r"^## `([\w.]+)`", page(), re.MULTILINE)
    top = [name for name in sections if "." not in name]
    assert top == [name for name, value in Config().model_dump().items() if isinstance(value, Mapping)]


def test_a_row_has_default_bounds_and_former_name() -> None:
    assert "| `0.1` | number, above 0, below 0.5 |" in row("data.valid_fraction")
    assert "| `null` | whole number, 1 or more, or null |" in row("tune.max_labels")
    assert '| `"lightgcn"` | mf, lightgcn |' in row("collab.fused_model")
    assert "formerly `feeds`" in row("collab.fused_model")


def test_no_special_token_is_taken_for_html() -> None:
    assert "Warm_ID" in row("fuse.warm_token")
    plain = re.sub(r"`[^`]*`|<!--.*?-->", "", page())
    assert "<" not in plain
