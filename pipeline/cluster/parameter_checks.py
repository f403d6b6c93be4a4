"""Checks of the pipelines' parameters that Kubernetes would refuse only when a step's pod is to start."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.cluster.client import ClusterError

_COUNT = re.compile(r"\d+")
_CPU = re.compile(r"\d+(\.\d+)?|\d+m")
_MEMORY = re.compile(r"\d+(\.\d+)?([EPTGM]i?|Ki|k)")
_RESOURCE = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?")
_HOST = r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?/)?"
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(rf"{_HOST}{_PATH}(?:/{_PATH})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?")

_TEXTS: dict[str, tuple[re.Pattern[str], str]] = {
    "image": (_IMAGE, "an image, such as registry.example.com/sella-rec:1.4.2; its name is in lower case"),
    "accelerators": (_COUNT, "a whole number in digits, such as 2; 0 for the CPU alone"),
    "scoring_accelerators": (re.compile("[01]"), "1, or 0 for the CPU alone"),
    "accelerator_type": (_RESOURCE, "a resource of Kubernetes, such as nvidia.com/gpu"),
    "llm_cpu": (_CPU, "a number of CPU cores, such as 8 or 500m"),
    "llm_memory": (_MEMORY, "a quantity of Kubernetes with its unit, such as 64Gi"),
}
_OTHERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "shards": (lambda value: value >= 1, "at least 1"),
    "node_selector": (
        lambda value: all(isinstance(label, str) for label in value.values()),
        'labels whose values are text, such as {pool: gpu} or {gpu: "true"}',
    ),
    "tolerations": (
        lambda value: all(isinstance(toleration, dict) for toleration in value),
        "mappings, such as [{key: spot, operator: Exists}]",
    ),
}


def check_parameters(values: Mapping[str, Any]) -> None:
    """Refuse what no cluster takes.

    Args:
        values: parameters of a pipeline, of their types.

    Raises:
        ClusterError: a value that Kubernetes would refuse; the message names the parameter and what it takes.
    """
    for name, value in values.items():
        if name in _TEXTS:
            pattern, expected = _TEXTS[name]
            fits = pattern.fullmatch(value) is not None
        elif name in _OTHERS:
            check, expected = _OTHERS[name]
            fits = check(value)
        else:
            continue
        if not fits:
            raise ClusterError(f"{name}={value}: expected {expected}")
