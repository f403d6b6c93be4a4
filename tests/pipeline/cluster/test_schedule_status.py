"""What `sella status` says of a schedule that does as it should, and of one that does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import kfp_server_api as models
import pytest

from pipeline.cluster.client import KfpConnection
from pipeline.cluster.schedule import Schedule, schedules, update
from pipeline.cluster.schedule_status import describe_schedule
from pipeline.cluster.submission import experiment_id, upload
from tests.fakes.kfp_scheduler import Scheduler, show_run
from tests.fakes.kfp_server import State

SUNDAY = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MONDAY, NEXT_MONDAY = (datetime(2026, 11, day, 3, 0, tzinfo=UTC) for day in (23, 30))
HOUR = timedelta(hours=1)


@pytest.fixture
def scheduler(server: tuple[KfpConnection, State], wanted: Schedule) -> Scheduler:
    """Of a schedule for Mondays, made on a Sunday."""
    cluster, state = server
    state.now = SUNDAY
    update(cluster, wanted)
    return Scheduler(state)


def told(cluster: KfpConnection, now: datetime) -> list[str]:
    (found,) = schedules(cluster)
    return describe_schedule(cluster, found, now)


def test_a_new_schedule_tells_its_next_time(server, scheduler):
    assert told(server[0], SUNDAY) == ["Schedule weekly: 0 3 * * 1 (enabled, next 2026-11-23 03:00 UTC)"]


def test_a_run_that_should_be_there_and_is_not_is_overdue(server, scheduler):
    cluster, _ = server
    # a moment is allowed for
    assert len(told(cluster, MONDAY + timedelta(minutes=4))) == 1
    first, overdue = told(cluster, MONDAY + HOUR)
    assert first.endswith("next 2026-11-30 03:00 UTC)")
    assert overdue.startswith("  overdue: no run was started at 2026-11-23 03:00 UTC, there is none.")
    (run,) = scheduler.run_until(MONDAY + 2 * HOUR)
    show_run(run, "SUCCEEDED", {"promote": "SUCCEEDED"})
    assert told(cluster, MONDAY + 3 * HOUR)[1:] == [f"  last run {run.run_id}, 2026-11-23 05:00 UTC: succeeded"]
    assert "the last one is of 2026-11-23 05:00 UTC" in told(cluster, NEXT_MONDAY + HOUR)[1]


def test_a_run_that_waits_for_the_last_one_is_not_overdue(server, scheduler):
    cluster, _ = server
    (run,) = scheduler.run_until(MONDAY)
    assert scheduler.run_until(NEXT_MONDAY) == []
    assert told(cluster, NEXT_MONDAY + HOUR)[1:] == [
        f"  the run of 2026-11-30 03:00 UTC waits for the end of {run.run_id}",
        f"  last run {run.run_id}, 2026-11-23 03:00 UTC: pending",
    ]


def test_a_last_run_that_failed_is_told_with_its_reason(server, scheduler):
    cluster, state = server
    (run,) = scheduler.run_until(MONDAY)
    show_run(run, "FAILED", {"prepare-data": "FAILED"})
    lines = told(cluster, MONDAY + HOUR)
    assert lines[1:3] == [
        f"  last run {run.run_id}, 2026-11-23 03:00 UTC: failed",
        "    Step prepare-data failed: the API does not give the reason; see its log",
    ]
    # runs of others do not count
    (experiment,) = state.all("experiments")
    other = models.V2beta1Run(experiment_id=experiment.experiment_id, display_name="by hand", state="SUCCEEDED")
    state.keep("runs", other)
    assert told(cluster, MONDAY + HOUR) == lines


def test_a_pinned_schedule_that_kfp_refuses_to_start_is_told(server, wanted):
    cluster, state = server
    state.now, state.mlflow_plugin = SUNDAY, True
    version = upload(cluster, wanted.package)
    cluster.api.create_recurring_run(
        experiment_id(cluster),
        "old",
        cron_expression="0 0 3 * * 1",
        params=wanted.parameters,
        pipeline_id=version.pipeline_id,
        version_id=version.id,
    )
    scheduler = Scheduler(state)
    assert scheduler.run_until(MONDAY) == []
    assert scheduler.errors
    first, pinned, overdue = told(cluster, MONDAY + HOUR)
    assert first.startswith("Schedule old: 0 3 * * 1 (enabled")
    assert pinned.startswith("  old is tied to one pipeline version")
    assert "set it again with `sella schedule`" in pinned
    assert overdue.startswith("  overdue: no run was started at 2026-11-23 03:00 UTC")


def test_a_disabled_schedule_is_not_overdue(server, scheduler):
    cluster, state = server
    state.all("recurringruns")[0].mode = "DISABLE"
    assert told(cluster, NEXT_MONDAY) == ["Schedule weekly: 0 3 * * 1 (disabled)"]


def test_a_trigger_of_another_kind_is_shown_as_it_is(server, wanted):
    cluster, state = server
    update(cluster, replace(wanted, name="by hand"))
    (made,) = state.all("recurringruns")
    made.trigger.cron_schedule.cron = "0 0 3 ? * MON#1"
    assert told(cluster, SUNDAY) == ["Schedule by hand: 0 3 ? * MON#1 (enabled)"]
    made.trigger = models.V2beta1Trigger(periodic_schedule=models.V2beta1PeriodicSchedule(interval_second="60"))
    assert told(cluster, SUNDAY) == ["Schedule by hand: no cron (enabled)"]
