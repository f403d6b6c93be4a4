"""Schedules of the pipelines on a cluster: one recurring run per name, with a KFP pipeline of its own.

A recurring run that names a version fails in KFP 2.17: its parameters are lost with KFP's MLflow plug-in, and never
filled in without it. One that names no version is started with the newest version of its pipeline. So that `sella
submit`, which uploads to `sella-rec`, does not change what a schedule runs, the schedule NAME runs the pipeline
`NAME-schedule`, and nothing else uploads to that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kfp_server_api import (
    V2beta1CronSchedule,
    V2beta1PipelineVersion,
    V2beta1PipelineVersionReference,
    V2beta1RecurringRun,
    V2beta1Run,
    V2beta1RuntimeConfig,
    V2beta1Trigger,
)

from pipeline.cluster.client import ClusterError, KfpConnection, named
from pipeline.cluster.runs import ENDS, get_run, recent_runs
from pipeline.cluster.schedule_settings import (
    ENABLED,
    default_settings,
    describe_changes,
    present_settings,
    wanted_settings,
)
from pipeline.cluster.submission import (
    EXPERIMENT,
    Package,
    create_pipeline,
    experiment_id,
    find_pipeline,
    upload_version,
)

_PAGE = 100
# for runs that were told to end
_END_SECONDS, _POLL_SECONDS = 300.0, 5.0


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

    @property
    def pipeline(self) -> str:
        """The name of its own pipeline on the cluster."""
        return f"{self.name}-schedule"


@dataclass(frozen=True)
class _OnCluster:
    """What the cluster has of a schedule."""

    recurring_runs: list[V2beta1RecurringRun]
    pipeline_id: str | None
    newest: str | None


def update(cluster: KfpConnection, wanted: Schedule, dry_run: bool = False, force: bool = False) -> list[str]:
    """Make the cluster's schedule of this name the wanted one; nothing is touched where nothing differs.

    Where only the code differs, its new version is uploaded to the schedule's pipeline, and the next start takes it.
    KFP cannot change a recurring run, so where the time or a parameter differs it is deleted and made again. That would
    end its running runs, so it is refused while there is one. Of missed times the latest is run late, and a run that
    would begin before the last one has ended waits for it.

    Args:
        dry_run: only look.
        force: end the running runs first.

    Returns:
        The differences, a line each; none where the schedule is as wanted.

    Raises:
        ClusterError: as `KfpConnection.asking`; or a run is running.
    """
    with cluster.asking():
        present = _on_cluster(cluster, wanted)
    changes, outdated = _changes(present, wanted), present.newest != wanted.package.version
    lines = changes + ([f"version: {present.newest or 'none'} -> {wanted.package.version}"] if outdated else [])
    if dry_run or not lines:
        return lines
    running = _running(cluster, wanted.name, present.recurring_runs, force) if changes else []
    with cluster.asking():
        # first what may fail without harm
        pipeline_id = present.pipeline_id or create_pipeline(cluster, wanted.pipeline)
        if outdated:
            _make_newest(cluster, pipeline_id, wanted.package)
    if changes:
        _end(cluster, running)
        _replace(cluster, present.recurring_runs, wanted, pipeline_id)
    return lines


def delete(cluster: KfpConnection, name: str, dry_run: bool = False, force: bool = False) -> int:
    """Delete the schedule of this name; its pipeline's versions stay.

    Args:
        force: end its running runs first.

    Returns:
        How many there were.

    Raises:
        ClusterError: as `KfpConnection.asking`; or a run of it is running.
    """
    with cluster.asking():
        present = list(_present(cluster, name))
    if not dry_run:
        _end(cluster, _running(cluster, name, present, force))
        with cluster.asking():
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


def _on_cluster(cluster: KfpConnection, wanted: Schedule) -> _OnCluster:
    pipeline_id = find_pipeline(cluster, wanted.pipeline)
    newest = _newest(cluster, pipeline_id) if pipeline_id else None
    return _OnCluster(list(_present(cluster, wanted.name)), pipeline_id, _content_of(newest) if newest else None)


def _changes(present: _OnCluster, wanted: Schedule) -> list[str]:
    """Everything but the version that differs: for any of it the recurring run has to be made anew."""
    defaults = default_settings(wanted.package)
    new = defaults | wanted_settings(wanted.cron, wanted.pipeline, wanted.parameters, wanted.service_account)
    first = present.recurring_runs[:1]
    old = [defaults | present_settings(found, present.pipeline_id, wanted.pipeline) for found in first]
    doubles = [f"a second schedule of this name: {found.recurring_run_id}" for found in present.recurring_runs[1:]]
    return describe_changes(old[0] if old else defaults, new) + doubles


def _newest(cluster: KfpConnection, pipeline_id: str) -> V2beta1PipelineVersion | None:
    listed = cluster.api.list_pipeline_versions(pipeline_id, page_size=1, sort_by="created_at desc")
    return listed.pipeline_versions[0] if listed.pipeline_versions else None


def _content_of(version: V2beta1PipelineVersion) -> str:
    """The package's version, without what `_make_newest` appends."""
    return version.display_name.partition(".")[0]


def _make_newest(cluster: KfpConnection, pipeline_id: str, package: Package) -> None:
    """Upload the package; one that was uploaded before, under a new name: a recurring run takes the newest version."""
    taken = cluster.api.list_pipeline_versions(pipeline_id, filter=named(package.version)).pipeline_versions
    name = f"{package.version}.{datetime.now(UTC):%Y%m%d%H%M%S}" if taken else package.version
    upload_version(cluster, pipeline_id, name, package.content)


def _replace(cluster: KfpConnection, present: list[V2beta1RecurringRun], wanted: Schedule, pipeline_id: str) -> None:
    with cluster.asking():
        experiment = experiment_id(cluster)
        _delete(cluster, present)
    try:
        with cluster.asking():
            _create(cluster, wanted, pipeline_id, experiment)
    except ClusterError as error:
        gone = "\nthe earlier one is deleted: run the command again" if present else ""
        raise ClusterError(f"schedule {wanted.name} could not be created: {error}{gone}") from error


def _create(cluster: KfpConnection, wanted: Schedule, pipeline_id: str, experiment: str) -> None:
    # kfp's own create_recurring_run demands a version. No namespace: without users, the API refuses one
    recurring_run = V2beta1RecurringRun(
        display_name=wanted.name,
        experiment_id=experiment,
        pipeline_version_reference=V2beta1PipelineVersionReference(pipeline_id=pipeline_id),
        runtime_config=V2beta1RuntimeConfig(parameters=wanted.parameters),
        trigger=V2beta1Trigger(cron_schedule=V2beta1CronSchedule(cron=wanted.cron)),
        mode=ENABLED,
        max_concurrency=1,
        no_catchup=True,
        service_account=wanted.service_account,
    )
    cluster.api._recurring_run_api.recurring_run_service_create_recurring_run(recurring_run)


def _delete(cluster: KfpConnection, present: list[V2beta1RecurringRun]) -> None:
    for found in present:
        cluster.api.delete_recurring_run(found.recurring_run_id)


def _running(cluster: KfpConnection, name: str, present: list[V2beta1RecurringRun], force: bool) -> list[V2beta1Run]:
    """The runs that KFP would delete with the schedule, and whose state its API would then never learn."""
    runs = [run for found in present for run in recent_runs(cluster, _PAGE, found.recurring_run_id)]
    running = [run for run in runs if run.state not in ENDS]
    if running and not force:
        raise ClusterError(
            f"schedule {name}: its run {running[0].run_id} is still running, and Kubeflow Pipelines would delete it "
            "with the schedule; wait for its end (`sella status`), or give --force to end it now"
        )
    return running


def _end(cluster: KfpConnection, running: list[V2beta1Run]) -> None:
    for run in running:
        with cluster.asking():
            cluster.api.terminate_run(run.run_id)
    for run in running:
        _wait_for_end(cluster, run)


def _wait_for_end(cluster: KfpConnection, run: V2beta1Run) -> None:
    until = time.monotonic() + _END_SECONDS
    while get_run(cluster, run.run_id).state not in ENDS:
        if time.monotonic() > until:
            raise ClusterError(
                f"run {run.run_id} was told to end and has not after {_END_SECONDS:.0f} s; the schedule is as before: "
                "run the command again once it has ended"
            )
        time.sleep(_POLL_SECONDS)
