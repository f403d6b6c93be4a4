"""configure: what each step of this run reads, fixed before any of them starts."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from components.code_version import code_version
from sella_rec.config import Config, settings_of
from sella_rec.data.version import data_version

# In the order of the component's outputs.
STEPS = (
    "find-champion",
    "prepare-data",
    "check-drift",
    "train-collab",
    "tune-llm",
    "distill-items",
    "align-collab",
    "fuse",
    "evaluate",
    "score-champion",
    "promote",
)


def configure(config: Config, window_until: str) -> dict[str, str]:
    """The settings of each step, as JSON: what it reads of the configuration, and the version of its code.

    prepare-data's tell the state of the data too, so that unchanged data is not prepared again, and check-drift's the
    time. The clock is in no other step's settings, whose earlier results it would make worthless.

    Args:
        window_until: ISO 8601 time after which interactions are not read; empty: as the configuration says.

    Raises:
        ConfigError: `window_until` is no time.
        DataError: the data is not there, or cannot be listed.
    """
    config = config.until(window_until)
    more = {
        "prepare-data": {"data_version": data_version(config.data)},
        "check-drift": {"time": _moment(window_until).isoformat()},
    }
    return {
        step: json.dumps(
            {"config": settings_of(config, step), "code_version": code_version(step), **more.get(step, {})},
            separators=(",", ":"),
        )
        for step in STEPS
    }


def _moment(text: str) -> datetime:
    """An ISO 8601 time, UTC where it names no zone; now where `text` is empty."""
    if not text:
        return datetime.now(UTC).replace(microsecond=0)
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
