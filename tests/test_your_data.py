"""docs/your-data.md names the test that holds each kind of file and value."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def test_every_kind_is_held_by_a_test_that_exists() -> None:
    page = (REPOSITORY / "docs" / "your-data.md").read_text().split("## Kinds of files and values")[1]
    named = re.findall(r"`(?:([\w/]+\.py)::)?(test_\w+)`", page)
    assert len(named) > 60
    tests = {file: file.read_text() for file in (REPOSITORY / "tests").rglob("test_*.py")}
    for file, name in named:
        held = [path for path, text in tests.items() if f"def {name}(" in text and str(path).endswith(file)]
        assert held, f"no test {name} in {file or 'tests'}"
