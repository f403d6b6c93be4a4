"""Schedules of the pipelines on a cluster: one recurring run per name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kfp_server_api import V2beta1RecurringRun

from pipeline.cluster.client import ClusterError, KfpConnection, named
from pipeline.cluster.submission import EXPERIMENT, Package, PipelineVersion, experiment_id, upload

# KFP puts the time in when it starts a run, UTC in this layout (Go's). As window_until it ends the data that are read,
# as data_version it makes every scheduled run read them anew.
SCHEDULED_TIME = "[[ScheduledTime.2006-01-02T15:04:05Z]]"
# the same as part of a folder's name
SCHEDULED_BATCH = "[[ScheduledTime.20060102-150405]]"
_PAGE = 100
_ENABLED = "ENABLE"
_OWN_ACCOUNT = "Kubeflow Pipelines' own"
# What its API shows where none was asked for: without users, and with them.
_OWN_ACCOUNTS = (None, "", "pipeline-runner", "default-editor")


@dataclass(frozen=True)
class Schedule:
    """What is wanted.

    Attributes:
        name: there is at most one schedule of a name.
        cron: six fields, as `cron.to_kfp` writes them.
        package: what is to run; the schedule keeps to this version until it is given again.
        parameters: of the pipeline.
        service_account: whose rights the steps' pods have; none: Kubeflow Pipelines' own account.
    """

    name: str
    cron: str
    package: Package
    parameters: dict[str, Any]
    service_account: str | None = None

    def settings(self) -> dict[str, str]:
        """Everything that two schedules can differ in, by a name for people."""
        account = self.service_account
        return _settings(self.cron, self.package.version, self.parameters, _ENABLED, "1", True, account)


def update(cluster: KfpConnection, wanted: Schedule, dry_run: bool = False) -> list[str]:
    """Make the cluster's schedule of this name the wanted one; nothing is touched where nothing differs.

    KFP cannot change a schedule, so a changed one is deleted and made again. Missed times are not caught up, and
    a run that would begin before the last one has ended waits for it.

    Args:
        dry_run: only look.

    Returns:
        The differences, a line each; none where the schedule is as wanted.

    Raises:
        ClusterError: as `KfpConnection.asking`.
    """
    with cluster.asking():
        present = list(_present(cluster, wanted.name))
        differences = _differences(cluster, present, wanted)
    if differences and not dry_run:
        # first what may fail without harm
        version = upload(cluster, wanted.package)
        with cluster.asking():
            experiment = experiment_id(cluster)
            _delete(cluster, present)
        try:
            _create(cluster, wanted, version, experiment)
        except ClusterError as error:
            gone = "\nthe earlier one is deleted: run the command again" if present else ""
            raise ClusterError(f"schedule {wanted.name} could not be made: {error}{gone}") from error
    return differences


def delete(cluster: KfpConnection, name: str, dry_run: bool = False) -> int:
    """Delete the schedule of this name; runs that it has started go on.

    Returns:
        How many there were.

    Raises:
        ClusterError: as `KfpConnection.asking`.
    """
    with cluster.asking():
        present = list(_present(cluster, name))
        if not dry_run:
            _delete(cluster, present)
    return len(present)


def schedules(cluster: KfpConnection) -> list[V2beta1RecurringRun]:
    """The schedules of both pipelines.

    Raises:
        ClusterError: as `KfpConnection.asking`.
    """
    with cluster.asking():
        return list(_present(cluster, None))


def _present(cluster: KfpConnection, name: str | None) -> Iterator[V2beta1RecurringRun]:
    """Schedules in this pipeline's experiment, of a name where one is given: another pipeline's are left alone."""
    experiments = cluster.api.list_experiments(namespace=cluster.namespace, filter=named(EXPERIMENT)).experiments
    token = ""
    while experiments:
        page = cluster.api.list_recurring_runs(
            page_token=token,
            page_size=_PAGE,
            experiment_id=experiments[0].experiment_id,
            filter=named(name) if name else None,
        )
        yield from page.recurring_runs or []
        token = page.next_page_token
        if not token:
            return


def _create(cluster: KfpConnection, wanted: Schedule, version: PipelineVersion, experiment: str) -> None:
    with cluster.asking():
        cluster.api.create_recurring_run(
            experiment,
            wanted.name,
            cron_expression=wanted.cron,
            max_concurrency=1,
            no_catchup=True,
            params=wanted.parameters,
            pipeline_id=version.pipeline_id,
            version_id=version.id,
            service_account=wanted.service_account,
        )


def _delete(cluster: KfpConnection, present: list[V2beta1RecurringRun]) -> None:
    for found in present:
        cluster.api.delete_recurring_run(found.recurring_run_id)


def _differences(cluster: KfpConnection, present: list[V2beta1RecurringRun], wanted: Schedule) -> list[str]:
    new = wanted.settings()
    if not present:
        return [f"+ {key}: {value}" for key, value in new.items()]
    old = _settings_of(cluster, present[0])
    changed = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    lines = [f"~ {key}: {old.get(key, 'unset')} -> {new.get(key, 'unset')}" for key in changed]
    return lines + [f"- a second schedule of this name, {found.recurring_run_id}" for found in present[1:]]


def _settings_of(cluster: KfpConnection, found: V2beta1RecurringRun) -> dict[str, str]:
    reference = found.pipeline_version_reference
    version = "unknown"
    if reference and reference.pipeline_version_id:
        known = cluster.api.get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id)
        version = known.display_name
    schedule = found.trigger.cron_schedule if found.trigger else None
    parameters = (found.runtime_config.parameters if found.runtime_config else None) or {}
    limit = str(found.max_concurrency)
    cron = schedule.cron if schedule else "none"
    return _settings(cron, version, parameters, found.mode, limit, found.no_catchup, found.service_account)


def _settings(
    cron: str,
    version: str,
    parameters: dict[str, Any],
    mode: str,
    limit: str,
    no_catchup: bool | None,
    service_account: str | None,
) -> dict[str, str]:
    rest = {name: str(value) for name, value in parameters.items() if name != "config"}
    config = _flat("config", json.loads(parameters.get("config", "{}")))
    fixed = {
        "cron": cron,
        "version": version,
        "mode": mode,
        "runs at once": limit,
        "no catch-up": str(bool(no_catchup)),
        "service account": _OWN_ACCOUNT if service_account in _OWN_ACCOUNTS else str(service_account),
    }
    return fixed | rest | config


def _flat(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not value:
        return {name: json.dumps(value)}
    return {key: text for field, inner in value.items() for key, text in _flat(f"{name}.{field}", inner).items()}
