"""The commands that talk to a cluster."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.common import clean_errors, load
from pipeline.cli.options import ConfigFile, Overrides
from pipeline.steps import PIPELINES

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run

    from pipeline.cluster.client import KfpConnection
    from sella_rec.config import Config

_NOTHING_TO_DO = "nothing to do, no drift since the champion; check-drift's report has the figures."
_GONE = " (its schedule was deleted, which ended it; Kubeflow Pipelines was not told)"

Pipeline = Annotated[
    Literal["train", "recommend"],
    typer.Option(help="train, or recommend: write the champion's recommendations for all users."),
]
Force = Annotated[
    bool, typer.Option("--force", help="End a run of the schedule that is still running. Without it: an error.")
]
Endpoint = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar=["KF_PIPELINES_ENDPOINT", "KFP_ENDPOINT"],
        help="Address of Kubeflow Pipelines' API. Default: the cluster of the kubeconfig.",
    ),
]
Namespace = Annotated[
    str | None, typer.Option(metavar="NAME", envvar="KFP_NAMESPACE", help="Kubernetes namespace of the runs.")
]
Token = Annotated[
    str | None,
    typer.Option(
        metavar="TOKEN",
        envvar="KFP_EXISTING_TOKEN",
        show_envvar=True,
        help="Bearer token of the API. Prefer the environment variable: options are visible in ps.",
    ),
]
Image = Annotated[
    str | None, typer.Option(metavar="NAME", envvar="SELLA_IMAGE", help="Image of the steps, as the cluster pulls it.")
]
ServiceAccount = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        envvar="SELLA_SERVICE_ACCOUNT",
        help="Kubernetes service account of the steps' pods. Default: Kubeflow Pipelines' own.",
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        metavar="NAME=VALUE",
        help="Parameter of the pipeline, such as accelerators=2 or llm_memory=64Gi; repeatable.",
    ),
]


def submit(
    pipeline: Pipeline = "train",
    config: ConfigFile = None,
    overrides: Overrides = None,
    image: Image = None,
    parameters: Parameters = None,
    service_account: ServiceAccount = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end of the run, and print each step's state.")
    ] = False,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token: Token = None,
) -> None:
    """Run a pipeline on a cluster."""
    with clean_errors():
        from pipeline.cluster import runs, submission
        from pipeline.cluster.client import connect

        wanted = load(config, overrides, None, None, None)
        _warn_of_local_paths(wanted)
        package = submission.compile_package(pipeline)
        now = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
        values = submission.arguments(wanted, package, _given(image, parameters))
        cluster = connect(endpoint, namespace, token)
        version = submission.upload(cluster, package)
        typer.echo(f"Version {package.version}: {'uploaded' if version.is_new else 'unchanged'}")
        run_id = submission.submit(cluster, version, values, f"{package.name}-{now}", service_account)
        typer.echo(f"Run {run_id}: {_link(cluster, run_id)}")
        if wait:
            ended = runs.wait(cluster, run_id, typer.echo)
            typer.echo(f"Succeeded: {_NOTHING_TO_DO}" if runs.nothing_to_do(ended) else "Succeeded.")


def schedule(
    cron: Annotated[
        str | None,
        typer.Option(metavar="'M H DOM MON DOW'", help="'0 3 * * 1' is Mondays at 3:00, in KFP's time zone (UTC)."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the schedule; an existing one is updated. Default: the name of the pipeline."),
    ] = None,
    pipeline: Pipeline = "train",
    config: ConfigFile = None,
    overrides: Overrides = None,
    image: Image = None,
    parameters: Parameters = None,
    service_account: ServiceAccount = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would change.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the schedule.")] = False,
    force: Force = False,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token: Token = None,
) -> None:
    """Run a pipeline on a schedule, one run at a time.

    A run trains on the data up to its start, or recommends with the model that is champion then. Of the times that were
    missed while the cluster was away, only the latest is run.
    """
    if (cron is None) != delete:
        raise typer.BadParameter("give either --cron or --delete")
    with clean_errors():
        name = name or PIPELINES[pipeline]
        if cron is None:
            _delete(name, dry_run, force, (endpoint, namespace, token))
        else:
            given, connection = _given(image, parameters), (endpoint, namespace, token)
            _update(name, pipeline, cron, config, overrides, given, service_account, dry_run, force, connection)


def status(
    run_id: Annotated[str | None, typer.Argument(metavar="RUN_ID", help="Show only this run, with its steps.")] = None,
    last: Annotated[int, typer.Option(min=1, max=100, help="Number of runs to show.")] = 5,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token: Token = None,
) -> None:
    """Show the last runs on the cluster, the steps of the newest, and the schedules with what is wrong with them."""
    with clean_errors():
        from pipeline.cluster.client import connect
        from pipeline.cluster.runs import recent_runs
        from pipeline.cluster.schedule import schedules
        from pipeline.cluster.schedule_status import describe_schedule

        cluster = connect(endpoint, namespace, token)
        known = schedules(cluster)
        ids = {found.recurring_run_id for found in known}
        if run_id:
            _show_run(cluster, run_id, ids)
            return
        runs = recent_runs(cluster, last)
        for run in runs[1:][::-1]:
            typer.echo(f"{run.display_name}  {run.run_id}  {_state(run, ids)}")
        if runs:
            _show_run(cluster, runs[0].run_id, ids)
        else:
            typer.echo("No runs yet: `sella submit` starts one.")
        for found in known:
            typer.echo("\n".join(describe_schedule(cluster, found, datetime.now(UTC))))


def register(app: typer.Typer) -> None:
    """Add the commands to `sella`."""
    for command in (submit, schedule, status):
        app.command()(command)


def _update(
    name: str,
    pipeline: str,
    cron: str,
    config: ConfigFile,
    overrides: Overrides,
    given: list[str],
    service_account: str | None,
    dry_run: bool,
    force: bool,
    connection: tuple[str | None, str | None, str | None],
) -> None:
    from pipeline.cluster import schedule as schedule_
    from pipeline.cluster import submission
    from pipeline.cluster.client import connect
    from pipeline.cluster.cron import to_kfp

    fields = to_kfp(cron)
    loaded = load(config, overrides, None, None, None)
    _warn_of_local_paths(loaded)
    package = submission.compile_package(pipeline)
    # neither window_until nor batch: each run fixes its own
    parameters = submission.arguments(loaded, package, given)
    wanted = schedule_.Schedule(name, fields, package, parameters, service_account)
    differences = schedule_.update(connect(*connection), wanted, dry_run, force)
    for line in differences:
        typer.echo(line)
    done = "would be set" if dry_run else "set"
    typer.echo(f"Schedule {name}: {done if differences else 'already up to date'}")


def _given(image: str | None, parameters: list[str] | None) -> list[str]:
    return [*([f"image={image}"] if image else []), *(parameters or [])]


def _delete(name: str, dry_run: bool, force: bool, connection: tuple[str | None, str | None, str | None]) -> None:
    from pipeline.cluster import schedule as schedule_
    from pipeline.cluster.client import connect

    count = schedule_.delete(connect(*connection), name, dry_run, force)
    done = "would be deleted" if dry_run else "deleted"
    typer.echo(f"Schedule {name}: {done if count else 'does not exist'}")


def _warn_of_local_paths(config: Config) -> None:
    data = config.data
    given = {"interactions": data.interactions, "items": data.items, "source": data.source}
    named = {f"data.{field}": value for field, value in given.items()} | {"backbone.name": config.backbone.name}
    for field, value in named.items():
        # a volume may well be mounted at the same place here and there, so this is no error
        if value and Path(value).exists():
            typer.echo(f"{field}={value} is a path on this machine: the steps' pods need the same path", err=True)


def _show_run(cluster: KfpConnection, run_id: str, schedules: Collection[str]) -> None:
    from pipeline.cluster.runs import explain_end, get_run, nothing_to_do, step_states

    run = get_run(cluster, run_id)
    typer.echo(f"{run.display_name}  {run.run_id}  {_state(run, schedules)}  {_link(cluster, run_id)}")
    seen = step_states(run)
    for step, line in seen.lines().items():
        typer.echo(f"  {step}: {line}")
    if run.state == "FAILED":
        typer.echo(explain_end(cluster, run))
    elif seen.note:
        typer.echo(f"  {seen.note}")
    elif nothing_to_do(run):
        typer.echo(f"  {_NOTHING_TO_DO}")


def _state(run: V2beta1Run, schedules: Collection[str]) -> str:
    from pipeline.cluster.runs import ENDS

    orphaned = run.state not in ENDS and run.recurring_run_id and run.recurring_run_id not in schedules
    return (run.state or "PENDING").lower() + (_GONE if orphaned else "")


def _link(cluster: KfpConnection, run_id: str) -> str:
    return cluster.run_link(run_id) or "(set KF_PIPELINES_UI_ENDPOINT to see the address of its page)"
