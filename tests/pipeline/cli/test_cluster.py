from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import kfp_server_api as models
import pytest
import yaml
from typer.testing import CliRunner, Result

from pipeline.cli.main import app
from pipeline.cluster import submission
from pipeline.cluster.submission import Package
from pipeline.steps import STEPS
from tests.fakes.kfp_scheduler import Scheduler, show_run
from tests.fakes.kfp_server import State, serve
from tests.pipeline.conftest import clean_environment, sella_command


@pytest.fixture
def server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: Package, recommend_package: Package
) -> Iterator[State]:
    packages = {"train": package, "recommend": recommend_package}
    monkeypatch.setattr(submission, "compile_package", lambda pipeline: packages[pipeline])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SELLA_IMAGE", "sella-rec:latest")
    with serve() as (endpoint, state):
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", endpoint)
        yield state


def _sella(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_submit_uploads_once_and_prints_where_the_run_is(server):
    first = _sella("submit", "--set", "seed=7")
    assert first.exit_code == 0, first.output
    (run,) = server.all("runs")
    assert "uploaded" in first.stdout
    assert f"/#/runs/details/{run.run_id}" in first.stdout
    assert '"seed":7' in run.runtime_config.parameters["config"].replace(" ", "")
    assert "unchanged" in _sella("submit").stdout
    assert len(server.uploads) == 1


def _end_with_check_drift(run: models.V2beta1Run) -> None:
    checked = models.V2beta1PipelineTaskDetail(display_name="check-drift", state="SUCCEEDED")
    run.state, run.run_details = "SUCCEEDED", models.V2beta1RunDetails(task_details=[checked])


def test_submit_waits_for_the_end_and_fails_with_the_run(server):
    server.on_read = lambda run: setattr(run, "state", "SUCCEEDED")
    assert _sella("submit", "--wait").stdout.endswith("Succeeded.\n")
    server.on_read = _end_with_check_drift
    assert "Succeeded: nothing to do, no drift since the champion" in _sella("submit", "--wait").stdout
    assert "nothing to do, no drift since the champion" in _sella("status").stdout
    server.on_read = lambda run: setattr(run, "state", "FAILED")
    failed = _sella("submit", "--wait")
    assert failed.exit_code == 1
    assert "ended as failed" in failed.stderr


def test_submit_without_an_image_asks_nothing_of_the_cluster(server, monkeypatch):
    monkeypatch.delenv("SELLA_IMAGE")
    refused = _sella("submit")
    assert refused.exit_code == 1
    assert "SELLA_IMAGE" in refused.stderr
    assert server.requests == []


def test_a_schedule_is_made_kept_and_deleted(server):
    weekly = ("schedule", "--cron", "0 3 * * mon", "--name", "weekly")
    assert "would be set" in _sella(*weekly, "--dry-run").stdout
    assert server.writes() == []
    made = _sella(*weekly)
    assert "cron: 0 3 * * 1\n" in made.stdout
    # what differs from the defaults, and nothing else: the packaged configuration changes some
    told = dict(line.split(": ", 1) for line in made.stdout.splitlines())
    assert told["config.fuse.rows_per_step"] == "4 -> 8"
    assert told["pipeline"] == "newest version of weekly-schedule"
    assert len(told) < 25
    assert made.stdout.endswith("Schedule weekly: set\n")
    assert _sella(*weekly).stdout == "Schedule weekly: already up to date\n"
    shown = r"Schedule weekly: 0 3 \* \* 1 \(enabled, next \d{4}-\d\d-\d\d 03:00 UTC\)\n"
    assert re.search(shown, _sella("status").stdout)
    assert _sella("schedule", "--delete", "--name", "weekly").stdout == "Schedule weekly: deleted\n"
    assert _sella("schedule", "--delete", "--name", "weekly").stdout == "Schedule weekly: does not exist\n"


def test_recommendations_are_a_pipeline_with_a_schedule_of_its_own(server):
    _sella("submit")
    where = ("--pipeline", "recommend", "--parameter", "output=s3://b/all")
    submitted = _sella("submit", *where)
    assert submitted.exit_code == 0, submitted.output
    train, recommend = server.all("runs")
    assert recommend.display_name.startswith("sella-rec-recommend-")
    # the first step names the batch by its own time
    assert "batch" not in recommend.runtime_config.parameters
    assert [made.display_name for made in server.all("pipelines")] == ["sella-rec", "sella-rec-recommend"]
    references = [run.pipeline_version_reference.pipeline_id for run in (train, recommend)]
    assert references == [made.pipeline_id for made in server.all("pipelines")]
    assert len(server.all("experiments")) == 1

    assert _sella("schedule", "--cron", "0 3 * * 1").stdout.endswith("Schedule sella-rec: set\n")
    daily = ("schedule", "--cron", "0 5 * * *", *where)
    assert _sella(*daily).stdout.endswith("Schedule sella-rec-recommend: set\n")
    assert _sella(*daily).stdout == "Schedule sella-rec-recommend: already up to date\n"
    made = [made.display_name for made in server.all("pipelines")]
    assert made == ["sella-rec", "sella-rec-recommend", "sella-rec-schedule", "sella-rec-recommend-schedule"]
    assert not any("[[" in str(found.runtime_config.parameters) for found in server.all("recurringruns"))
    assert _sella("schedule", "--delete", "--pipeline", "recommend").stdout.endswith("recommend: deleted\n")
    assert [found.display_name for found in server.all("recurringruns")] == ["sella-rec"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["schedule"], 2, "either --cron or"),
        (["schedule", "--cron", "0 3 * * 1", "--delete"], 2, "either --cron or"),
        (["schedule", "--cron", "0 3 * *"], 1, "4 fields, not 5"),
        (["schedule", "--cron", "*/70 * * * *"], 1, "the step 70 is larger than 59"),
        (["submit", "--parameter", "accelerators=two"], 1, "accelerators=two: expected a whole number"),
        (
            ["schedule", "--cron", "0 3 * * 1", "--parameter", "llm_memory=64GB"],
            1,
            "llm_memory=64GB: expected a quantity",
        ),
        (["submit", "--pipeline", "recommend"], 1, "no output: --parameter output=VALUE"),
        (["submit", "--set", "fuse.lerning_rate=1"], 1, "did you mean 'learning_rate'?"),
        (["status", "missing"], 1, "answered 404: runs missing not found"),
    ],
)
def test_what_cannot_be_is_told_in_one_message(server, arguments, code, message):
    told = _sella(*arguments)
    assert told.exit_code == code
    assert message in told.stderr
    assert "Traceback" not in told.output


def test_status_shows_the_newest_runs_steps_last(server):
    assert "No runs yet" in _sella("status").stdout
    for _ in range(2):
        _sella("submit")
    older, newer = (run.run_id for run in server.all("runs"))
    shown = _sella("status").stdout
    assert shown.index(older) < shown.index(newer)
    assert newer not in _sella("status", older).stdout


def test_the_steps_run_in_the_image_that_was_named_and_the_namespace_is_passed_on(server):
    environment = clean_environment() | {"SELLA_IMAGE": "sella-rec:7"}
    command = sella_command("submit", "--endpoint", os.environ["KF_PIPELINES_ENDPOINT"], "--namespace", "team")
    assert subprocess.run(command, env=environment, check=True, capture_output=True).stderr == b""
    assert server.all("runs")[0].runtime_config.parameters["image"] == "sella-rec:7"
    # every step's image is the parameter, the packaged default none's
    (content,) = server.uploads.values()
    images = re.findall(rb"^ +image: (.*)$", content, re.MULTILINE)
    assert len(images) == len({*STEPS, "finish"})
    assert all(image.startswith(b"'{{$.inputs.parameters[") for image in images)
    assert [server.all(kind)[0].namespace for kind in ("pipelines", "experiments")] == ["team", "team"]


def test_a_path_of_this_machine_is_warned_of(server, tmp_path):
    for name in ("ratings.csv", "items.csv"):
        (tmp_path / name).touch()
    files = ("--set", f"data.interactions={tmp_path}/ratings.csv", "--set", f"data.items={tmp_path}/items.csv")
    warned = _sella("submit", *files)
    assert f"data.interactions={tmp_path}/ratings.csv is a path on this machine" in warned.stderr
    assert _sella("submit").stderr == ""


def test_without_an_endpoint_the_kubeconfig_leads_to_the_api(server, tmp_path):
    cluster = {"name": "here", "cluster": {"server": os.environ["KF_PIPELINES_ENDPOINT"]}}
    context = {"name": "here", "context": {"cluster": "here", "user": "me"}}
    user = {"name": "me", "user": {"token": "from-kubeconfig"}}
    kubeconfig = {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "here"}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    server.token = "from-kubeconfig"
    environment = clean_environment() | {"KUBECONFIG": str(tmp_path / "kubeconfig")}
    del environment["KF_PIPELINES_ENDPOINT"]
    shown = subprocess.run(sella_command("status"), env=environment, check=False, capture_output=True, text=True)
    assert (shown.stdout, shown.stderr) == ("No runs yet: `sella submit` starts one.\n", "")


def test_a_running_run_of_a_schedule_is_ended_by_force_alone(server):
    weekly = ("schedule", "--cron", "0 3 * * 1")
    server.now = datetime(2026, 11, 22, tzinfo=UTC)
    _sella(*weekly)
    (run,) = Scheduler(server).run_until(datetime(2026, 11, 23, 3, tzinfo=UTC))
    refused = _sella(*weekly, "--set", "seed=7")
    assert refused.exit_code == 1
    assert f"its run {run.run_id} is still running" in refused.stderr
    changed = _sella(*weekly, "--set", "seed=7", "--force")
    assert changed.stdout.splitlines()[-1] == "Schedule sella-rec: set"
    assert changed.stdout.splitlines()[0].startswith("config.seed: ")
    assert run.state == "CANCELED"


def test_status_says_that_a_run_of_a_deleted_schedule_is_no_more(server):
    server.now = datetime(2026, 11, 22, tzinfo=UTC)
    _sella("schedule", "--cron", "0 3 * * 1")
    (run,) = Scheduler(server).run_until(datetime(2026, 11, 23, 3, tzinfo=UTC))
    show_run(run, "RUNNING", {"prepare-data": "RUNNING"})
    assert f"{run.run_id}  running  " in _sella("status", run.run_id).stdout
    # by hand, in the UI
    server.delete("recurringruns", run.recurring_run_id)
    assert f"{run.run_id}  running (its schedule was deleted" in _sella("status").stdout


def test_status_tells_a_schedule_that_is_not_started(server):
    server.now = datetime.now(UTC) - timedelta(days=8)
    _sella("schedule", "--cron", "0 3 * * 1")
    assert "overdue: no run was started at " in _sella("status").stdout
