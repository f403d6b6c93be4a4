"""docs/operations.md's table of what runs again when a setting changes, made from READS and the compiled DAG.

`pytest tests/test_reruns.py --write-golden` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from components.configure.step import STEPS
from sella_rec.config import READS, Config
from tests.pipeline.conftest import steps_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- reruns:begin -->", "<!-- reruns:end -->"
ALWAYS = {"configure", "find-champion", "check-drift", "promote"}


def leaves(model: BaseModel, prefix: str = "") -> Iterator[str]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def readers(setting: str) -> frozenset[str]:
    return frozenset(
        step for step in STEPS if any(setting == path or setting.startswith(f"{path}.") for path in READS[step])
    )


@pytest.fixture(scope="module")
def consumers() -> dict[str, set[str]]:
    """The steps that take another's artifacts, directly or not."""
    tasks = steps_of(next(yaml.safe_load_all((ROOT / "pipeline.yaml").read_text())))
    direct: dict[str, set[str]] = {step: set() for step in STEPS}
    for step, task in tasks.items():
        for name, given in task.get("inputs", {}).get("artifacts", {}).items():
            output = given.get("taskOutputArtifact", {}).get("producerTask")
            outer = given.get("componentInputArtifact", "").removeprefix("pipelinechannel--")
            producer = output or next(each for each in STEPS if outer.startswith(f"{each}-"))
            assert producer in direct, f"{step}: {name}"
            direct[producer].add(step)

    def after(step: str) -> set[str]:
        return direct[step].union(*(after(each) for each in direct[step]))

    return {step: after(step) for step in STEPS}


def table(consumers: dict[str, set[str]]) -> str:
    whole = Config()
    rows: dict[tuple[str, frozenset[str]], list[str]] = {}
    for setting in leaves(whole):
        rows.setdefault((setting.partition(".")[0], readers(setting)), []).append(setting)
    lines = ["| setting | steps that read it | what runs again |", "|---|---|---|"]
    for (section, reading), settings in rows.items():
        alone = len({key for key in rows if key[0] == section}) == 1
        named = ", ".join(f"`{name}`" for name in settings)
        names = f"`{section}`" if alone else f"the rest of `{section}`" if len(settings) > 5 else named
        again = reading.union(*(consumers[step] for step in reading)) - ALWAYS
        first = ", ".join(step for step in STEPS if step in reading) or "none: of another pipeline"
        lines.append(f"| {names} | {first} | {', '.join(s for s in STEPS if s in again) or 'nothing more'} |")
    return "\n".join(lines)


def test_the_table_says_what_a_changed_setting_runs_again(consumers, request):
    head, rest = PAGE.read_text().split(BEGIN)
    shown, tail = rest.split(END)
    made = table(consumers)
    if request.config.getoption("--write-golden"):
        PAGE.write_text(f"{head}{BEGIN}\n{made}\n{END}{tail}")
    else:
        assert shown.strip() == made, f"write it anew: pytest {Path(__file__).name} --write-golden"


def test_a_late_setting_runs_nothing_before_it_again(consumers):
    assert readers("promote.tolerance") == {"promote"}
    assert not consumers["promote"]
    assert consumers["fuse"] == {"evaluate", "promote"}
    assert "train-collab" not in consumers["tune-llm"]
