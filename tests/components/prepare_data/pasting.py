"""Settings that errors suggest: found, pasted, and held to their promise."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import yaml

from sella_rec.config import Config, load_config
from sella_rec.data.errors import DataError

# One suggestion: settings that are to be used together
_VALUE = r"""(?:'[^']*'|"[^"]*"|[^\s;,()'"])+"""
_SUGGESTION = re.compile(rf"--set {_VALUE}(?: --set {_VALUE})*")


def suggestions(message: str) -> list[list[str]]:
    """The settings of each suggestion, without those that leave a name open."""
    found = [shlex.split(text)[1::2] for text in _SUGGESTION.findall(message)]
    return [settings for settings in found if not any(setting.endswith("=NAME") for setting in settings)]


def paste(config: Config, settings: list[str], folder: Path) -> Config:
    """The configuration as the command has it with `settings` on top."""
    file = folder / "pasted.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    return load_config(file, settings)


def hold_to_promise(error: DataError, config: Config, use: Callable[[Config], object], folder: Path) -> int:
    """Paste every suggestion: it works, or what is then wrong is something else.

    Returns:
        How many there were.
    """
    found = suggestions(str(error))
    for settings in found:
        after = _error(use, paste(config, settings, folder))
        assert after is None or _gist(after) != _gist(error), f"{settings} does not fix: {error}"
    return len(found)


def _error(use: Callable[[Config], object], config: Config) -> DataError | None:
    try:
        use(config)
    except DataError as error:
        return error
    return None


def _gist(error: DataError) -> str:
    """What is wrong, whatever the figures and the suggestion."""
    return re.sub(r"[\d,.]+", "0", _SUGGESTION.sub("", str(error)).split(" (dropped before")[0])
