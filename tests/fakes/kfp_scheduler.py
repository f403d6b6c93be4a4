"""Starts the recurring runs of `kfp_server` as KFP 2.17's scheduled-workflow controller does, and lists a run's tasks.

What a start is given depends on whether the recurring run names a version, and on KFP's MLflow plug-in:

| version | plug-in | the run |
|---|---|---|
| named | on | CreateRun without parameters; refused, and tried again for ever |
| named | off | compiled when the recurring run was made: parameters are literal text |
| none | either | CreateRun of the newest version; `[[CurrentTime]]` and `[[RunUUID]]` are filled in, nothing else |
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import kfp_server_api as models

from tests.fakes.api import RefusedError
from tests.fakes.kfp_server import State

_MINUTE = timedelta(minutes=1)
# past this many bytes, Argo compresses a workflow's nodes and KFP's API does not update its list of tasks
_NODES_LIMIT = 1 << 20
# of Go's layouts, the parts that pipelines use
_LAYOUT = {"2006": "%Y", "01": "%m", "02": "%d", "15": "%H", "04": "%M", "05": "%S"}
_ENDED = ("SUCCEEDED", "FAILED", "CANCELED")


@dataclass
class Scheduler:
    """The controller.

    Attributes:
        state: of the server.
        errors: what CreateRun refused, by recurring run; the recurring run itself shows nothing of it.
    """

    state: State
    errors: dict[str, list[str]] = field(default_factory=dict)
    _last: dict[str, datetime] = field(default_factory=dict)

    def run_until(self, now: datetime) -> list[models.V2beta1Run]:
        """Start what is due by `now`; with no_catchup of several missed times the latest, late."""
        self.state.now = now
        started = []
        for found in self.state.all("recurringruns"):
            due = self._due(found, now)
            for moment in due[-1:] if found.no_catchup else due:
                run = self._start(found)
                if run is None:
                    break
                self._last[found.recurring_run_id] = moment
                started.append(run)
        return started

    def _due(self, found: models.V2beta1RecurringRun, now: datetime) -> list[datetime]:
        if found.status != "ENABLED":
            return []
        since = self._last.get(found.recurring_run_id, found.created_at).replace(second=0, microsecond=0)
        minutes = (since + n * _MINUTE for n in range(1, int((now - since) / _MINUTE) + 1))
        return [minute for minute in minutes if cron_matches(found.trigger.cron_schedule.cron, minute)]

    def _start(self, found: models.V2beta1RecurringRun) -> models.V2beta1Run | None:
        runs = [run for run in self.state.all("runs") if run.recurring_run_id == found.recurring_run_id]
        if sum(run.state not in _ENDED for run in runs) >= int(found.max_concurrency):
            return None
        pinned = bool(found.pipeline_version_reference.pipeline_version_id)
        parameters = dict(found.runtime_config.parameters or {})
        if pinned and self.state.mlflow_plugin:
            parameters = {}
        elif not pinned:
            parameters = {name: self._filled_in(value) for name, value in parameters.items()}
        reference = models.V2beta1PipelineVersionReference(**found.pipeline_version_reference.to_dict())
        wanted = models.V2beta1Run(
            display_name=f"{found.display_name}-{len(runs) + 1}",
            experiment_id=found.experiment_id,
            recurring_run_id=found.recurring_run_id,
            pipeline_version_reference=reference,
            runtime_config=models.V2beta1RuntimeConfig(parameters=parameters),
            service_account=found.service_account,
        )
        try:
            return self.state.create_run(wanted)
        except RefusedError as refused:
            self.errors.setdefault(found.recurring_run_id, []).append(str(refused))
            return None

    def _filled_in(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        now = self.state.time()
        value = re.sub(
            r"\[\[CurrentTime(?:\.(.+?))?\]\]", lambda found: _as_go(now, found[1] or "20060102150405"), value
        )
        return value.replace("[[RunUUID]]", str(uuid.uuid4()))


def _as_go(moment: datetime, layout: str) -> str:
    return moment.strftime(re.sub("|".join(_LAYOUT), lambda found: _LAYOUT[found[0]], layout))


def cron_matches(cron: str, moment: datetime) -> bool:
    """Whether a six-field expression, seconds first, names this minute."""
    second, minute, hour, day, month, weekday = cron.split()
    assert second == "0"
    dates = _field(day, moment.day, 1), _field(weekday, moment.isoweekday() % 7, 0)
    on_day = all(dates) if day[0] == "*" or weekday[0] == "*" else any(dates)
    in_month = _field(month, moment.month, 1)
    return _field(minute, moment.minute, 0) and _field(hour, moment.hour, 0) and in_month and on_day


def _field(text: str, value: int, low: int) -> bool:
    return any(
        (value - low) % int(part[2:]) == 0 if part.startswith("*/") else part == "*" or int(part) == value
        for part in text.split(",")
    )


def show_run(run: models.V2beta1Run, state: str, steps: Mapping[str, str], nodes_bytes: int = 0) -> None:
    """Give a run its state and, unless its nodes have grown too large, its list of tasks.

    Args:
        steps: states by step, in order; `NAME-driver` for one whose driver did not let it begin.
        nodes_bytes: what Argo's status of its nodes takes.
    """
    run.state = state
    if nodes_bytes <= _NODES_LIMIT:
        run.run_details = models.V2beta1RunDetails(task_details=task_details(run.created_at, state, steps))


def task_details(began: datetime, state: str, steps: Mapping[str, str]) -> list[models.V2beta1PipelineTaskDetail]:
    """The tasks as the API lists them: with drivers, groups and attempts; no error, no pod, no parent."""
    listed = [("root", state), ("root-driver", "SUCCEEDED"), ("exit-handler-1", state), ("condition-2(0)", state)]
    for step, reached in steps.items():
        if step.endswith("-driver"):
            listed.append((step, reached))
        else:
            listed += [(f"{step}-driver", "SUCCEEDED"), (step, reached), ("executor(0)", reached)]
    return [
        models.V2beta1PipelineTaskDetail(
            task_id=str(number), display_name=name, state=found, create_time=began + timedelta(seconds=number)
        )
        for number, (name, found) in enumerate(listed)
    ]
