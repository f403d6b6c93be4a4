"""What two schedules can differ in, and the differences in words: one line a setting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kfp_server_api import V2beta1RecurringRun

from pipeline.cluster.cron import from_kfp
from pipeline.cluster.submission import Package, parameters_of
from sella_rec.config import Config, merged

ENABLED = "ENABLE"
_OWN_ACCOUNT = "Kubeflow Pipelines' own"
# What its API shows where none was asked for: without users, and with them.
_OWN_ACCOUNTS = (None, "", "pipeline-runner", "default-editor")


def wanted_settings(cron: str, pipeline: str, parameters: Mapping[str, Any], account: str | None) -> dict[str, str]:
    """The settings of a schedule as `sella schedule` makes it.

    Args:
        cron: KFP's six fields.
        pipeline: name of the schedule's own pipeline on the cluster.
    """
    return _settings(cron, f"newest version of {pipeline}", parameters, ENABLED, "1", True, account)


def present_settings(found: V2beta1RecurringRun, own_id: str | None, own_name: str) -> dict[str, str]:
    """The settings of a schedule on the cluster.

    Args:
        own_id, own_name: the schedule's own pipeline, if the cluster has it.
    """
    reference = found.pipeline_version_reference
    if reference is None:
        pipeline = "a specification of its own"
    elif reference.pipeline_version_id:
        pipeline = f"always version {reference.pipeline_version_id}"
    else:
        pipeline = f"newest version of {own_name if reference.pipeline_id == own_id else reference.pipeline_id}"
    schedule = found.trigger.cron_schedule if found.trigger else None
    parameters = (found.runtime_config.parameters if found.runtime_config else None) or {}
    cron, limit = schedule.cron if schedule else "none", str(found.max_concurrency)
    return _settings(cron, pipeline, parameters, found.mode, limit, found.no_catchup, found.service_account)


def default_settings(package: Package) -> dict[str, str]:
    """What a setting is where neither the schedule nor the cluster says anything."""
    defaults = {
        name: definition["defaultValue"]
        for name, definition in parameters_of(package).items()
        if "defaultValue" in definition and name != "config"
    }
    fixed = _settings("", "", defaults | {"config": Config().to_json()}, ENABLED, "1", True, None)
    return {name: value for name, value in fixed.items() if name not in ("cron", "pipeline")}


def describe_changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """A line for every setting that differs."""
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return [
        f"{name}: {old[name]} -> {new.get(name, 'not set')}" if name in old else f"{name}: {new[name]}"
        for name in changed
    ]


def _settings(
    cron: str,
    pipeline: str,
    parameters: Mapping[str, Any],
    mode: str,
    limit: str,
    no_catchup: bool | None,
    account: str | None,
) -> dict[str, str]:
    fixed = {
        "cron": from_kfp(cron),
        "pipeline": pipeline,
        "mode": f"{mode.lower()}d",
        "runs at once": limit,
        "missed times": "the latest is run late" if no_catchup else "all are run late",
        "service account": _OWN_ACCOUNT if account in _OWN_ACCOUNTS else str(account),
    }
    rest = {name: _text(value) for name, value in parameters.items() if name != "config"}
    # what a configuration leaves out has its default
    whole = merged(Config().model_dump(mode="json"), json.loads(parameters.get("config", "{}")))
    return fixed | rest | _flat("config", whole)


def _text(value: Any) -> str:
    # the API knows floating-point numbers only
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return (value if isinstance(value, str) else json.dumps(value)) or "(empty)"


def _flat(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not value:
        return {name: json.dumps(value)}
    return {key: text for field, inner in value.items() for key, text in _flat(f"{name}.{field}", inner).items()}
