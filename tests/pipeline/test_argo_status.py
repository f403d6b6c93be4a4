"""What a run's parameters put into the status of Argo's workflow object, which holds 1 MiB with everything in it.

The rule was seen on Kubeflow Pipelines 2.17.0 with Argo 4.0.8: of each task, groups included, the status keeps about
ten copies of every parameter value, escaped twice. The whole configuration in every task, 5 KB, made 13 steps 1.31 MB;
some 30 KB a task of that was Kubeflow Pipelines' own and is not counted here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.configure.step import configure
from pipeline.packaged import PACKAGED
from sella_rec.config import load_config

COPIES = 10
# of the executor's node alone, where a task is tried again
COPIES_OF_ANOTHER_ATTEMPT = 3
BUDGET = 500_000
# a path, an image with its digest, the name of a version
ANY_TEXT = "x" * 100
CHANNEL = "pipelinechannel--"


def spec_of(file: str) -> dict[str, Any]:
    return next(yaml.safe_load_all((Path(__file__).parents[2] / file).read_text()))


def tasks_of(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every task of every level, groups included."""
    levels = [spec["root"], *spec["components"].values()]
    for level in levels:
        yield from level.get("dag", {}).get("tasks", {}).items()


def size_of(value: str) -> int:
    return len(json.dumps(json.dumps(value)))


def status_bytes(file: str, values: dict[str, str], shards: int = 1, retried: bool = False) -> int:
    """Bytes of the parameters in a run's status.

    Args:
        values: by the name of a pipeline's parameter, or of `<step>-<output>`.
        shards: how often the loop runs.
        retried: every task that may be tried again was, once.
    """
    spec, total = spec_of(file), 0
    parameters = spec["root"]["inputDefinitions"]["parameters"].items()
    defaults = {name: str(each["defaultValue"]) for name, each in parameters if "defaultValue" in each}
    for name, task in tasks_of(spec):
        size = 0
        for key, given in task.get("inputs", {}).get("parameters", {}).items():
            size += size_of(_value(key, given, defaults | values))
        copies = COPIES + COPIES_OF_ANOTHER_ATTEMPT * (retried and "retryPolicy" in task)
        total += size * copies * (shards if name == "recommend" else 1)
    return total


def _value(key: str, given: dict[str, Any], values: dict[str, str]) -> str:
    if "runtimeValue" in given:
        return str(given["runtimeValue"]["constant"])
    output = given.get("taskOutputParameter")
    if output:
        return values.get(f"{output['producerTask']}-{output['outputParameterKey']}", ANY_TEXT)
    return values.get(given.get("componentInputParameter", key).removeprefix(CHANNEL), ANY_TEXT)


@pytest.mark.parametrize("name", ["quickstart", "ci", "amazon-book", "movielens-1m"])
def test_a_training_run_stays_far_below_what_argo_holds(name, monkeypatch):
    monkeypatch.setattr("components.configure.step.data_version", lambda data: "0" * 16)
    config = load_config(PACKAGED[name])
    values = {"config": config.to_json(), "window_until": "2026-11-23T03:00:00Z"}
    for step, settings in configure(config, "").items():
        values[f"configure-{step.replace('-', '_')}"] = settings
    assert len(values["config"]) < 1200
    assert status_bytes("pipeline.yaml", values, retried=True) < BUDGET


def test_the_whole_configuration_in_every_task_was_past_it(monkeypatch):
    whole = load_config(PACKAGED["quickstart"]).model_dump_json()
    values = {f"configure-{step.replace('-', '_')}": whole for step in configure(load_config(None), "")}
    assert status_bytes("pipeline.yaml", {**values, "config": whole}) > BUDGET


def test_recommendations_in_64_shards_stay_below_it():
    config = load_config(PACKAGED["quickstart"]).to_json()
    assert status_bytes("recommend.yaml", {"config": config}, shards=64) < BUDGET
