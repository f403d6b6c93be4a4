"""Whether schedules do what they should: their next time, their last run, and runs that should be there and are not."""

from __future__ import annotations

from datetime import datetime, timedelta

from kfp_server_api import V2beta1RecurringRun, V2beta1Run

from pipeline.cluster.client import KfpConnection
from pipeline.cluster.cron import CronError, CronTimes, from_kfp, time_zone
from pipeline.cluster.runs import ENDS, failures, get_run, recent_runs
from pipeline.cluster.schedule_settings import ENABLED

# KFP's controller looks every few seconds
_GRACE = timedelta(minutes=5)
_PINNED = (
    "is tied to one pipeline version, so Kubeflow Pipelines starts its runs without parameters, or with [[...]] not "
    "filled in: set it again with `sella schedule`"
)


def describe_schedule(cluster: KfpConnection, found: V2beta1RecurringRun, now: datetime) -> list[str]:
    """A schedule in lines: when it fires, and what is wrong with it.

    Args:
        now: the time, with its time zone.

    Raises:
        ClusterError: as `KfpConnection.asking`.
        CronError: `CRON_SCHEDULE_TIMEZONE` is not a time zone.
    """
    cron = found.trigger.cron_schedule.cron if found.trigger and found.trigger.cron_schedule else None
    enabled = found.mode == ENABLED
    times = _times(cron) if enabled else None
    following = times.after(now) if times else None
    when = f", next {_shown(following)}" if following else ""
    lines = [f"Schedule {found.display_name}: {from_kfp(cron) if cron else 'no cron'} ({found.mode.lower()}d{when})"]
    if found.pipeline_version_reference and found.pipeline_version_reference.pipeline_version_id:
        lines.append(f"  {found.display_name} {_PINNED}")
    last = next(iter(recent_runs(cluster, 1, found.recurring_run_id)), None)
    due = times.until(now - _GRACE) if times else None
    if due and found.created_at < due:
        lines += _overdue(last, due)
    return lines + (_last_run(cluster, last) if last else [])


def _times(cron: str | None) -> CronTimes | None:
    try:
        return CronTimes(cron) if cron else None
    except CronError:
        # made by hand in a form that is not known here: it is shown as it is
        return None


def _overdue(last: V2beta1Run | None, due: datetime) -> list[str]:
    if last is not None and last.created_at >= due:
        return []
    if last is not None and last.state not in ENDS:
        return [f"  the run of {_shown(due)} waits for the end of {last.run_id}"]
    found = f"the last one is of {_shown(last.created_at)}" if last else "there is none"
    return [
        f"  overdue: no run was started at {_shown(due)}, {found}. Kubeflow Pipelines may refuse to start it: "
        "`kubectl logs -n kubeflow deployment/ml-pipeline-scheduledworkflow`"
    ]


def _last_run(cluster: KfpConnection, last: V2beta1Run) -> list[str]:
    told = f"  last run {last.run_id}, {_shown(last.created_at)}: {(last.state or 'PENDING').lower()}"
    if last.state != "FAILED":
        return [told]
    return [told, *(f"    {line}" for line in failures(cluster, get_run(cluster, last.run_id)))]


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(time_zone()):%Y-%m-%d %H:%M %Z}"
