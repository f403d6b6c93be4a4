"""The pages that steps write: Jinja templates beside the step, with whatever comes from data escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: Path, filters: Mapping[str, Callable[..., Any]], **content: Any) -> str:
    """A template's page.

    Args:
        template: its file; templates beside it can be included.
        filters: by the name that the template uses.

    Raises:
        jinja2.UndefinedError: the template uses something that `content` lacks.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(template.name).render(**content)
