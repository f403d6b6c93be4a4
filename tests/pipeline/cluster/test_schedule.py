from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline.cluster.client import ClusterError, KfpConnection, connect
from pipeline.cluster.cron import CronError, to_kfp
from pipeline.cluster.schedule import SCHEDULED_TIME, Schedule, delete, schedules, update
from pipeline.cluster.submission import Package, arguments
from sella_rec.config import Config
from tests.fakes.kfp_server import State, serve


@pytest.fixture
def server() -> Iterator[tuple[KfpConnection, State]]:
    with serve() as (endpoint, state):
        yield connect(endpoint), state
        assert not state.refusals, "a refusal that no request met"


@pytest.fixture
def wanted(tiny_config: Config, package: Package) -> Schedule:
    values = arguments(tiny_config, package, SCHEDULED_TIME, ["image=i:1"], SCHEDULED_TIME)
    return Schedule("weekly", "0 0 3 * * 1", Package(b"a: 1\n", "v-1"), values)


@pytest.mark.parametrize(
    ("five", "six"),
    [
        ("0 3 * * 1", "0 0 3 * * 1"),
        ("0 3 * * mon", "0 0 3 * * 1"),
        ("*/15 * * * *", "0 */15 * * * *"),
        ("0 0 * * 7", "0 0 0 * * 0"),
        ("0 0 * * Fri-7", None),
        ("0 0 * * 5-7", "0 0 0 * * 0,5,6"),
        ("0 0 * * SAT,SUN", "0 0 0 * * 0,6"),
        ("30 4 1,15 jan-mar/2 *", "0 30 4 1,15 1,3 *"),
        ("0 8-10 * * MON-FRI", "0 0 8,9,10 * * 1,2,3,4,5"),
        ("0 0 29 2 *", "0 0 0 29 2 *"),
        ("0 0 * * */2,7", "0 0 0 * * */2,0,2,4,6"),
        ("  0  3 * *   1 ", "0 0 3 * * 1"),
    ],
)
def test_five_fields_become_six(five, six):
    assert to_kfp(five) == (six or "0 0 0 * * 0,5,6")


@pytest.mark.parametrize(
    ("five", "message"),
    [
        ("0 0 3 * * 1", "6 fields, not 5"),
        ("@weekly", "1 fields, not 5"),
        ("60 3 * * 1", "minute, '60': '60' is not 0 to 59"),
        ("0 24 * * *", "hour"),
        ("0 0 0 * *", "day of month"),
        ("0 0 * 13 *", "month, '13': '13' is not 1 to 12 or jan to dec"),
        ("0 0 * * 8", "day of week"),
        ("0 0 * * monday", "'monday' is not 0 to 7 or sun to sat"),
        ("0 5-3 * * *", "'5-3' is empty"),
        ("*/0 * * * *", "'*/0' is empty"),
        ("5/15 * * * *", "a step needs"),
        ("*-5 * * * *", "a range needs two values"),
        ("1,,2 * * * *", "neither"),
        ("-1 * * * *", "neither"),
        ("0 0 31 feb,apr *", "never fires"),
    ],
)
def test_what_is_no_cron_is_refused(five, message):
    with pytest.raises(CronError, match=message.replace("*", r"\*")):
        to_kfp(five)


def test_the_api_naming_its_own_account_is_no_difference_but_another_account_is(server, wanted):
    cluster, state = server
    update(cluster, wanted)
    state.all("recurringruns")[0].service_account = "pipeline-runner"
    assert update(cluster, wanted) == []
    changed = update(cluster, replace(wanted, service_account="trainer"))
    assert changed == ["~ service account: Kubeflow Pipelines' own -> trainer"]
    assert [made.service_account for made in state.all("recurringruns")] == ["trainer"]


def test_a_schedule_is_made_with_no_catch_up_and_one_run_at_a_time(server, wanted):
    cluster, state = server
    assert "+ cron: 0 0 3 * * 1" in update(cluster, wanted)
    (made,) = state.all("recurringruns")
    assert made.display_name == "weekly"
    assert made.trigger.cron_schedule.cron == "0 0 3 * * 1"
    assert (made.no_catchup, made.max_concurrency, made.mode) == (True, "1", "ENABLE")
    assert made.runtime_config.parameters == wanted.parameters
    for name in ("data_version", "window_until"):
        assert made.runtime_config.parameters[name] == "[[ScheduledTime.2006-01-02T15:04:05Z]]"
    assert state.uploads == {"v-1": b"a: 1\n"}


def test_the_same_again_writes_nothing(server, wanted):
    cluster, state = server
    update(cluster, wanted)
    before = state.writes()
    assert update(cluster, wanted) == []
    assert state.writes() == before


def test_a_change_replaces_and_never_doubles(server, wanted, tiny_config):
    cluster, state = server
    update(cluster, wanted)
    rate = tiny_config.fuse.learning_rate
    changed = tiny_config.model_copy(update={"fuse": tiny_config.fuse.model_copy(update={"learning_rate": rate * 2})})
    parameters = wanted.parameters | {"config": changed.to_json()}
    later = replace(wanted, cron="0 0 4 * * 1", package=Package(b"a: 2\n", "v-2"), parameters=parameters)
    assert update(cluster, later) == [
        f"~ config.fuse.learning_rate: {rate} -> {rate * 2}",
        "~ cron: 0 0 3 * * 1 -> 0 0 4 * * 1",
        "~ version: v-1 -> v-2",
    ]
    (kept,) = state.all("recurringruns")
    assert kept.trigger.cron_schedule.cron == "0 0 4 * * 1"
    assert kept.runtime_config.parameters == parameters
    assert state.writes()[-2].startswith("DELETE /recurringruns/")


def test_a_dry_run_shows_the_difference_and_writes_nothing(server, wanted):
    cluster, state = server
    assert len(update(cluster, wanted, dry_run=True)) > 5
    assert state.writes() == []
    update(cluster, wanted)
    before = state.writes()
    assert update(cluster, replace(wanted, cron="0 0 4 * * 1"), dry_run=True) == ["~ cron: 0 0 3 * * 1 -> 0 0 4 * * 1"]
    assert delete(cluster, "weekly", dry_run=True) == 1
    assert state.writes() == before


@pytest.mark.parametrize(("field", "value"), [("mode", "DISABLE"), ("max_concurrency", "5"), ("no_catchup", False)])
def test_what_others_changed_is_put_right(server, wanted, field, value):
    cluster, state = server
    update(cluster, wanted)
    setattr(state.all("recurringruns")[0], field, value)
    assert len(update(cluster, wanted)) == 1
    assert update(cluster, wanted) == []


def test_doubles_of_others_making_become_one(server, wanted):
    cluster, state = server
    update(cluster, wanted)
    cluster.api.create_recurring_run(
        state.all("experiments")[0].experiment_id,
        "weekly",
        cron_expression="0 0 3 * * 1",
        pipeline_id=state.all("pipelines")[0].pipeline_id,
        version_id=state.all("versions")[0].pipeline_version_id,
    )
    assert "second schedule" in update(cluster, wanted)[0]
    assert len(state.all("recurringruns")) == 1


def test_deleting_takes_one_name_only(server, wanted):
    cluster, state = server
    update(cluster, wanted)
    update(cluster, replace(wanted, name="daily"))
    assert delete(cluster, "weekly") == 1
    assert delete(cluster, "weekly") == 0
    assert [found.display_name for found in schedules(cluster)] == ["daily"]
    assert list(state.kept["versions"]), "the version stays"


def test_every_page_of_schedules_is_read(server, wanted):
    cluster, state = server
    state.page_size = 2
    for name in "abcde":
        update(cluster, replace(wanted, name=name))
    assert [found.display_name for found in schedules(cluster)] == list("abcde")


def test_a_failed_replacement_says_that_the_earlier_one_is_gone(server, wanted):
    cluster, state = server
    update(cluster, wanted)
    state.refusals.append(("POST /recurringruns", 400))
    with pytest.raises(ClusterError, match=r"schedule weekly could not be made.*400(.|\n)*earlier one is deleted"):
        update(cluster, replace(wanted, cron="0 0 4 * * 1"))
    assert update(cluster, wanted)
    assert len(state.all("recurringruns")) == 1


def test_a_refused_upload_leaves_the_earlier_schedule(server, wanted):
    cluster, state = server
    update(cluster, wanted)
    state.refusals.append(("POST /pipelines/upload_version", 403))
    with pytest.raises(ClusterError, match="403"):
        update(cluster, replace(wanted, package=Package(b"a: 2\n", "v-2")))
    assert len(state.all("recurringruns")) == 1
