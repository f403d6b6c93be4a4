from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.steps import BUILDS_ON
from tests.pipeline.conftest import clean_environment, groups_of, sella_command, steps_of

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def spec() -> dict:
    return next(yaml.safe_load_all((REPOSITORY / "pipeline.yaml").read_text()))


def test_the_compiled_pipelines_are_those_in_the_repository(tmp_path):
    subprocess.run(sella_command("compile", "--output", str(tmp_path)), env=clean_environment(), check=True)
    assert {file.name for file in tmp_path.iterdir()} == {"pipeline.yaml", "recommend.yaml"}
    for file in tmp_path.iterdir():
        assert file.read_text() == (REPOSITORY / file.name).read_text(), "run `make compile` and commit the result"


def test_the_steps_build_on_each_other_as_the_dag_says(spec):
    tasks = steps_of(spec)
    assert set(tasks) == set(BUILDS_ON)

    def ancestors(direct: dict[str, list[str]], step: str) -> set[str]:
        return set(direct[step]).union(*(ancestors(direct, before) for before in direct[step]))

    # what the condition waits for, every step inside it does
    condition = groups_of(spec)[1]["condition-2"]["dependentTasks"]
    inside = groups_of(spec)[2]
    compiled = {
        step: task.get("dependentTasks", []) + (condition if step in inside else []) for step, task in tasks.items()
    }
    declared = {step: list(before) for step, before in BUILDS_ON.items()}
    assert all(ancestors(compiled, step) == ancestors(declared, step) for step in tasks)


def test_all_after_check_drift_wait_for_its_yes(spec):
    _, outside, inside = groups_of(spec)
    assert set(outside) == {"configure", "find-champion", "prepare-data", "check-drift", "condition-2"}
    assert set(inside) == set(BUILDS_ON) - set(outside)
    condition = outside["condition-2"]["triggerPolicy"]["condition"]
    assert condition == "inputs.parameter_values['pipelinechannel--check-drift-Output'] == 'yes'"


def test_long_steps_are_retried_and_only_what_asks_registry_or_clock_is_never_cached(spec):
    tasks = steps_of(spec)
    registry = {"find-champion", "check-drift", "promote"}
    uncached = registry | {"configure"}
    retried = {step for step, task in tasks.items() if task.get("retryPolicy")}
    assert retried == set(tasks) - uncached - {"prepare-data"}
    assert {step for step, task in tasks.items() if not task["cachingOptions"].get("enableCache")} == uncached


def test_everything_that_the_interface_shows_is_described(spec):
    for name, component in spec["components"].items():
        inputs = component.get("inputDefinitions", {})
        for kind in ("parameters", "artifacts"):
            for field, definition in inputs.get(kind, {}).items():
                if not field.startswith("pipelinechannel--"):
                    assert definition.get("description"), f"{name}: {field}"
    assert len(spec["root"]["inputDefinitions"]["parameters"]) <= 12
    assert all(entry["description"] for entry in spec["root"]["inputDefinitions"]["parameters"].values())
