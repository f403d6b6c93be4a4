"""The reference of the configuration is written from the sections, so each of them has to say what it controls."""

from collections.abc import Iterator

from pydantic.fields import FieldInfo

from sella_rec.config import Config
from sella_rec.config.base import ConfigSection


def _fields(section: type[ConfigSection], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", field
        if _is_section(field):
            yield from _fields(field.annotation, f"{prefix}{name}.")


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, ConfigSection)


def test_every_section_says_what_it_controls_and_every_field_what_it_is():
    fields = dict(_fields(Config))
    assert {"seed", "collab.lightgcn.layers", "launch.train_job.nodes"} < set(fields)
    silent = [
        name
        for name, field in fields.items()
        if not (field.annotation.__dict__.get("__doc__") if _is_section(field) else field.description)
    ]
    assert silent == []
