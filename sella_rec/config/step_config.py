"""What each step reads of the configuration; what it does not read cannot change it, nor make it run again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel

from sella_rec.config.load import parse_config
from sella_rec.config.tree import Config

# Which rows are evaluated, and how they are scored.
_SCORED_ROWS = ("evaluate.max_rows_per_user", "evaluate.share_history")
_SCORING = (*_SCORED_ROWS, "evaluate.tokens_per_batch")
# A section, or a field of one.
READS: dict[str, tuple[str, ...]] = {
    "configure": tuple(Config.model_fields),
    "find-champion": ("promote.model_name",),
    "prepare-data": ("data",),
    "check-drift": ("retrain", "seed"),
    "train-collab": ("collab", "seed", "deterministic"),
    "tune-llm": ("tune", "prompt", "backbone", "launch", *_SCORING, "seed", "deterministic"),
    "distill-items": ("distill", "prompt", "backbone", "deterministic"),
    "align-collab": ("align", "collab", "seed", "deterministic"),
    "fuse": (
        *("fuse", "prompt", "backbone", "launch", "align.hidden", "collab.fused_model", *_SCORING),
        # the bundle keeps them for whoever asks it
        *("data.history_length", "distill.batch_size"),
        *("seed", "deterministic"),
    ),
    "evaluate": ("evaluate", "backbone", "collab.fused_model", "seed", "deterministic"),
    "score-champion": (*_SCORED_ROWS, "backbone", "deterministic"),
    "promote": ("promote", "evaluate.bootstrap_samples", "seed"),
    "load-champion": ("recommend", "promote.model_name", "backbone.device"),
    "recommend": ("backbone", "deterministic"),
    "summarize": (),
}


class UndeclaredSettingError(AttributeError):
    """A step reads a setting that `READS` does not name for it: a change of the setting would not run it again."""


def settings_of(config: Config, step: str) -> dict[str, Any]:
    """What a step reads of a configuration, as nested JSON values, without what has its default."""
    differing = config.model_dump(mode="json", exclude_defaults=True)
    chosen: dict[str, Any] = {}
    for path in READS[step]:
        *sections, field = path.split(".")
        source, target = differing, chosen
        for section in sections:
            source = source.get(section, {})
        if field not in source:
            continue
        for section in sections:
            target = target.setdefault(section, {})
        target[field] = source[field]
    return chosen


def step_config(step: str, settings: Mapping[str, Any]) -> Config:
    """A configuration from which a step can read what `READS` names for it, and nothing else.

    Args:
        settings: as `settings_of` gives them; what is left out has its default.

    Raises:
        ConfigError: an unknown key, wrong type or range.
        UndeclaredSettingError: later, where the step reads something else.
    """
    if step == "configure":
        return parse_config(settings)
    config = parse_config(settings, of_one_step=True)
    return cast(Config, _View(config, {tuple(path.split(".")) for path in READS[step]}, step))


class _View:
    def __init__(self, model: BaseModel, paths: set[tuple[str, ...]], step: str):
        self._model, self._paths, self._step = model, paths, step

    def __getattr__(self, name: str) -> Any:
        inside = {path[1:] for path in self._paths if path[0] == name}
        if not inside:
            read = f"{type(self._model).__name__}.{name}"
            raise UndeclaredSettingError(f"{self._step} reads {read}: READS in config/step_config.py does not name it")
        value = getattr(self._model, name)
        return value if () in inside else _View(value, inside, self._step)


def merged(settings: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Two steps' settings as one tree."""
    both = dict(settings)
    for key, value in more.items():
        inner = both.get(key)
        both[key] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return both
