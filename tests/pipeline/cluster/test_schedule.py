from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import kfp_server_api as models
import pytest

from pipeline.cluster import schedule as schedule_module
from pipeline.cluster.client import ClusterError, KfpConnection
from pipeline.cluster.runs import get_run
from pipeline.cluster.schedule import Schedule, delete, schedules, update
from pipeline.cluster.submission import Package, experiment_id, submit, upload
from tests.fakes.kfp_scheduler import Scheduler, show_run

SUNDAY = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MONDAY, NEXT_MONDAY = (datetime(2026, 11, day, 3, 0, tzinfo=UTC) for day in (23, 30))


def changed_code(package: Package, mark: str = "second") -> Package:
    """Another version of the same pipeline."""
    return Package(package.content + f"# {mark}\n".encode(), f"sella-rec-{mark}")


def pinned(cluster: KfpConnection, wanted: Schedule, **parameters: str) -> models.V2beta1RecurringRun:
    """The schedule as it was made before: of one version, with macros."""
    version = upload(cluster, wanted.package)
    return cluster.api.create_recurring_run(
        experiment_id(cluster),
        wanted.name,
        cron_expression=wanted.cron,
        max_concurrency=1,
        no_catchup=True,
        params=wanted.parameters | parameters,
        pipeline_id=version.pipeline_id,
        version_id=version.id,
    )


@pytest.mark.parametrize("plugin", [False, True])
def test_a_schedule_is_started_with_its_parameters_and_the_code_it_was_given_whatever_is_submitted(
    server, wanted, plugin
):
    cluster, state = server
    state.mlflow_plugin, state.now = plugin, SUNDAY
    update(cluster, wanted)
    # a submission of other code is none of the schedule's business
    other = upload(cluster, changed_code(wanted.package))
    submit(cluster, other, wanted.parameters, "by hand")
    scheduler = Scheduler(state)
    (first,) = scheduler.run_until(MONDAY)
    show_run(first, "SUCCEEDED", {"promote": "SUCCEEDED"})
    (second,) = scheduler.run_until(NEXT_MONDAY)
    for run, moment in ((first, MONDAY), (second, NEXT_MONDAY)):
        given = run.runtime_config.parameters
        assert given == wanted.parameters
        assert not any("[[" in value for value in given.values())
        # each run fixes the time up to which it reads by itself
        assert given.keys().isdisjoint({"window_until", "batch"})
        assert state.contents[run.pipeline_version_reference.pipeline_version_id] == wanted.package.content
        assert run.created_at == run.scheduled_at == moment
    assert scheduler.errors == {}


def test_a_pinned_version_with_the_plug_in_is_never_started_and_shows_nothing_of_it(server, wanted):
    cluster, state = server
    state.mlflow_plugin, state.now = True, SUNDAY
    made = pinned(cluster, wanted)
    scheduler = Scheduler(state)
    assert [scheduler.run_until(moment) for moment in (MONDAY, MONDAY, NEXT_MONDAY)] == [[], [], []]
    refusal = "parameter image is not optional, yet has neither default value nor user provided value"
    assert scheduler.errors == {made.recurring_run_id: [refusal] * 3}
    assert cluster.api.get_recurring_run(made.recurring_run_id).status == "ENABLED"


def test_a_pinned_version_without_the_plug_in_is_given_macros_as_text(server, wanted):
    cluster, state = server
    state.now = SUNDAY
    macros = {"window_until": "[[ScheduledTime.2006-01-02T15:04:05Z]]", "accelerator_type": "[[CurrentTime]] [[Index]]"}
    pinned(cluster, wanted, **macros)
    (run,) = Scheduler(state).run_until(MONDAY)
    assert run.runtime_config.parameters == wanted.parameters | macros


def test_without_a_version_the_current_time_is_filled_in_and_the_scheduled_one_is_not(server, wanted):
    cluster, state = server
    state.now = SUNDAY
    macros = {
        "window_until": "[[CurrentTime.2006-01-02T15:04:05Z]]",
        "accelerator_type": "[[RunUUID]]",
        "llm_cpu": "[[ScheduledTime]] [[Index]]",
    }
    update(cluster, replace(wanted, parameters=wanted.parameters | macros))
    (run,) = Scheduler(state).run_until(MONDAY)
    given = run.runtime_config.parameters
    assert given["window_until"] == "2026-11-23T03:00:00Z"
    assert re.fullmatch(r"[0-9a-f-]{36}", given["accelerator_type"])
    assert given["llm_cpu"] == "[[ScheduledTime]] [[Index]]"


def test_of_missed_times_the_latest_is_run_late_and_only_once_the_last_run_has_ended(server, wanted):
    cluster, state = server
    state.now = SUNDAY
    update(cluster, replace(wanted, cron="0 0 3 * * *"))
    scheduler = Scheduler(state)
    (late,) = scheduler.run_until(SUNDAY.replace(day=25))
    assert late.created_at == SUNDAY.replace(day=25)
    assert scheduler.run_until(SUNDAY.replace(day=27)) == []
    show_run(late, "SUCCEEDED", {"promote": "SUCCEEDED"})
    assert len(scheduler.run_until(SUNDAY.replace(day=27, hour=13))) == 1


def test_without_users_the_api_names_a_namespace_and_takes_none(server, wanted):
    cluster, _ = server
    update(cluster, wanted)
    (made,) = schedules(cluster)
    assert made.namespace == "kubeflow"
    with pytest.raises(ClusterError, match="400: in single-user mode"), cluster.asking():
        cluster.api._recurring_run_api.recurring_run_service_create_recurring_run(made)


def test_deleting_a_recurring_run_ends_its_runs_and_the_api_never_learns_of_it(server, wanted):
    cluster, state = server
    state.now = SUNDAY
    update(cluster, wanted)
    (run,) = Scheduler(state).run_until(MONDAY)
    show_run(run, "RUNNING", {"prepare-data": "RUNNING"})
    cluster.api.delete_recurring_run(run.recurring_run_id)
    state.end_run(run, "SUCCEEDED")
    assert get_run(cluster, run.run_id).state == "RUNNING"


def test_the_api_naming_its_own_account_is_no_difference_but_another_account_is(server, wanted):
    cluster, state = server
    update(cluster, wanted)
    state.all("recurringruns")[0].service_account = "pipeline-runner"
    assert update(cluster, wanted) == []
    changed = update(cluster, replace(wanted, service_account="trainer"))
    assert changed == ["service account: Kubeflow Pipelines' own -> trainer"]
    assert [made.service_account for made in state.all("recurringruns")] == ["trainer"]


def test_a_schedule_is_made_with_no_catch_up_and_one_run_at_a_time(server, wanted):
    cluster, state = server
    assert "cron: 0 3 * * 1" in update(cluster, wanted)
    (made,) = state.all("recurringruns")
    assert made.display_name == "weekly"
    assert made.trigger.cron_schedule.cron == "0 0 3 * * 1"
    assert (made.no_catchup, made.max_concurrency, made.mode) == (True, "1", "ENABLE")
    assert made.runtime_config.parameters == wanted.parameters
    reference = made.pipeline_version_reference
    (pipeline,) = state.all("pipelines")
    assert (pipeline.display_name, pipeline.pipeline_id) == ("weekly-schedule", reference.pipeline_id)
    assert reference.pipeline_version_id is None
    assert state.uploads == {wanted.package.version: wanted.package.content}


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
    parameters = wanted.parameters | {"config": changed.to_json(), "accelerators": "2"}
    package = changed_code(wanted.package)
    later = replace(wanted, cron="0 0 4 * * 1", package=package, parameters=parameters)
    assert update(cluster, later) == [
        "accelerators: 1 -> 2",
        f"config.fuse.learning_rate: {rate} -> {rate * 2}",
        "cron: 0 3 * * 1 -> 0 4 * * 1",
        f"version: {wanted.package.version} -> {package.version}",
    ]
    (kept,) = state.all("recurringruns")
    assert kept.trigger.cron_schedule.cron == "0 0 4 * * 1"
    assert kept.runtime_config.parameters == parameters
    assert state.writes()[-2].startswith("DELETE /recurringruns/")


def test_a_new_schedule_is_told_by_what_differs_from_the_defaults(server, wanted, tiny_config):
    cluster, _ = server
    told = update(cluster, wanted, dry_run=True)
    tree, defaults = tiny_config.model_dump(mode="json"), type(tiny_config)().model_dump(mode="json")
    changed = {section for section in tree if tree[section] != defaults[section]}
    assert {line.split(":")[0].split(".")[1] for line in told if line.startswith("config.")} == changed
    rate, default = (tree_["fuse"]["learning_rate"] for tree_ in (tree, defaults))
    assert f"config.fuse.learning_rate: {default} -> {rate}" in told or rate == default
    rest = {line.split(":")[0] for line in told if not line.startswith("config.")}
    assert rest == {"cron", "image", "pipeline", "version"}


def test_new_code_alone_is_uploaded_and_the_recurring_run_stays_whatever_is_running(server, wanted):
    cluster, state = server
    state.now = SUNDAY
    update(cluster, wanted)
    scheduler = Scheduler(state)
    (running,) = scheduler.run_until(MONDAY)
    (before,) = state.all("recurringruns")
    package = changed_code(wanted.package)
    newer = replace(wanted, package=package)
    assert update(cluster, newer) == [f"version: {wanted.package.version} -> {package.version}"]
    assert update(cluster, newer) == []
    assert state.all("recurringruns") == [before]
    show_run(running, "SUCCEEDED", {"promote": "SUCCEEDED"})
    (run,) = scheduler.run_until(NEXT_MONDAY)
    assert state.contents[run.pipeline_version_reference.pipeline_version_id] == package.content


def test_earlier_code_given_again_is_the_newest_version_again(server, wanted):
    cluster, state = server
    state.now = SUNDAY
    for package in (wanted.package, changed_code(wanted.package), wanted.package):
        assert update(cluster, replace(wanted, package=package))
    assert update(cluster, wanted) == []
    assert len(state.all("versions")) == 3
    (run,) = Scheduler(state).run_until(MONDAY)
    assert state.contents[run.pipeline_version_reference.pipeline_version_id] == wanted.package.content


def test_a_pinned_schedule_is_made_anew_without_its_version_and_macros(server, wanted):
    cluster, state = server
    made = pinned(cluster, wanted, window_until="[[ScheduledTime]]")
    version = made.pipeline_version_reference.pipeline_version_id
    assert update(cluster, wanted) == [
        f"pipeline: always version {version} -> newest version of weekly-schedule",
        "window_until: [[ScheduledTime]] -> (empty)",
        f"version: none -> {wanted.package.version}",
    ]
    (kept,) = state.all("recurringruns")
    assert kept.pipeline_version_reference.pipeline_version_id is None
    assert update(cluster, wanted) == []


def test_the_same_configuration_in_other_words_is_no_difference(server, wanted, tiny_config):
    cluster, state = server
    update(cluster, wanted)
    (made,) = state.all("recurringruns")
    long = tiny_config.model_dump_json()
    assert len(long) > len(wanted.parameters["config"])
    made.runtime_config.parameters |= {"config": long, "accelerators": "1", "node_selector": {}}
    assert update(cluster, wanted) == []


@pytest.fixture
def running(server, wanted) -> models.V2beta1Run:
    """A run of the schedule that is not at its end."""
    cluster, state = server
    state.now = SUNDAY
    update(cluster, wanted)
    (run,) = Scheduler(state).run_until(MONDAY)
    show_run(run, "RUNNING", {"prepare-data": "RUNNING"})
    return run


def test_neither_a_change_nor_a_deletion_ends_a_running_run_unless_it_is_forced(server, wanted, running):
    cluster, state = server
    before = state.writes()
    later = replace(wanted, cron="0 0 4 * * 1", package=changed_code(wanted.package))
    refusal = f"its run {running.run_id} is still running.*--force"
    for attempt in (lambda: update(cluster, later), lambda: delete(cluster, "weekly")):
        with pytest.raises(ClusterError, match=refusal):
            attempt()
    assert state.writes() == before
    # what fails first fails without harm
    state.refusals.append(("POST /pipelines/upload_version", 403))
    with pytest.raises(ClusterError, match="403"):
        update(cluster, later, force=True)
    assert get_run(cluster, running.run_id).state == "RUNNING"
    assert update(cluster, later, force=True)
    assert get_run(cluster, running.run_id).state == "CANCELED"
    assert [found.trigger.cron_schedule.cron for found in schedules(cluster)] == ["0 0 4 * * 1"]


def test_a_run_that_does_not_end_keeps_its_schedule(server, running, monkeypatch):
    cluster, state = server
    monkeypatch.setattr(schedule_module, "_END_SECONDS", 0)
    monkeypatch.setattr(schedule_module, "_POLL_SECONDS", 0)
    # nobody is there to end it
    state.workflows.clear()
    with pytest.raises(ClusterError, match=f"run {running.run_id} was told to end and has not.*schedule is as before"):
        delete(cluster, "weekly", force=True)
    assert len(schedules(cluster)) == 1


def test_a_dry_run_shows_the_difference_and_writes_nothing(server, wanted):
    cluster, state = server
    assert len(update(cluster, wanted, dry_run=True)) > 4
    assert state.writes() == []
    update(cluster, wanted)
    before = state.writes()
    assert update(cluster, replace(wanted, cron="0 0 4 * * 1"), dry_run=True) == ["cron: 0 3 * * 1 -> 0 4 * * 1"]
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
    pinned(cluster, wanted)
    assert any("second schedule" in line for line in update(cluster, wanted))
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
    with pytest.raises(ClusterError, match=r"schedule weekly could not be created.*400(.|\n)*earlier one is deleted"):
        update(cluster, replace(wanted, cron="0 0 4 * * 1"))
    assert update(cluster, wanted)
    assert len(state.all("recurringruns")) == 1


def test_a_refused_upload_leaves_the_earlier_schedule(server, wanted):
    cluster, state = server
    update(cluster, wanted)
    state.refusals.append(("POST /pipelines/upload_version", 403))
    with pytest.raises(ClusterError, match="403"):
        update(cluster, replace(wanted, cron="0 0 4 * * 1", package=changed_code(wanted.package)))
    assert len(state.all("recurringruns")) == 1
