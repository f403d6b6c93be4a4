"""The commands that talk to a cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.common import clean_errors, load
from pipeline.cli.options import ConfigFile, Overrides
from pipeline.steps import PIPELINES

if TYPE_CHECKING:
    from pipeline.cluster.client import KfpConnection
    from sella_rec.config import Config

_NOTHING_TO_DO = "nothing to do, no drift since the champion; check-drift's report has the figures."

Pipeline = Annotated[
    Literal["train", "recommend"],
    typer.Option(help="train, or recommend: the champion's recommendations for all users."),
]
Endpoint = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar=["KF_PIPELINES_ENDPOINT", "KFP_ENDPOINT"],
        help="Kubeflow Pipelines; without it, the one that the kubeconfig leads to.",
    ),
]
Namespace = Annotated[str | None, typer.Option(metavar="NAME", envvar="KFP_NAMESPACE", help="Whose runs.")]
Token = Annotated[
    str | None,
    typer.Option(
        metavar="TOKEN", envvar="KFP_EXISTING_TOKEN", show_envvar=True, help="Better by the variable: ps shows options."
    ),
]
Image = Annotated[
    str | None, typer.Option(metavar="NAME", envvar="SELLA_IMAGE", help="The steps' image, as the cluster pulls it.")
]
ServiceAccount = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        envvar="SELLA_SERVICE_ACCOUNT",
        help="Whose rights the steps' pods have; without it, those of Kubeflow Pipelines' own account.",
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        metavar="NAME=VALUE",
        help="Of the pipeline, as accelerators=2 or llm_memory=64Gi; repeatable.",
    ),
]


def submit(
    pipeline: Pipeline = "train",
    config: ConfigFile = None,
    overrides: Overrides = None,
    image: Image = None,
    parameters: Parameters = None,
    service_account: ServiceAccount = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show the steps until the run has ended.")] = False,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token: Token = None,
) -> None:
    """Run a pipeline on a cluster."""
    with clean_errors():
        from pipeline.cluster import submission
        from pipeline.cluster.client import connect

        wanted = load(config, overrides, None, None, None)
        _warn_of_local_paths(wanted)
        package = submission.compile_package(pipeline)
        now = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
        values = submission.arguments(wanted, package, now, _given(image, parameters), batch=now)
        cluster = connect(endpoint, namespace, token)
        version = submission.upload(cluster, package)
        typer.echo(f"Version {package.version}: {'uploaded' if version.is_new else 'unchanged'}")
        run_id = submission.submit(cluster, version, values, f"{package.name}-{now}", service_account)
        typer.echo(f"Run {run_id}: {_link(cluster, run_id)}")
        if wait:
            ended = submission.wait(cluster, run_id, typer.echo)
            typer.echo(f"Succeeded: {_NOTHING_TO_DO}" if submission.nothing_to_do(ended) else "Succeeded.")


def schedule(
    cron: Annotated[
        str | None,
        typer.Option(metavar="'M H DOM MON DOW'", help="When: '0 3 * * 1' is Mondays at 3:00, UTC as KFP is set up."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="One schedule a name: given again, it is updated. Without it, the pipeline's.")
    ] = None,
    pipeline: Pipeline = "train",
    config: ConfigFile = None,
    overrides: Overrides = None,
    image: Image = None,
    parameters: Parameters = None,
    service_account: ServiceAccount = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; its runs go on.")] = False,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token: Token = None,
) -> None:
    """Run a pipeline on a schedule, one run at a time; missed ones stay missed.

    It trains on the data up to the scheduled time, or recommends with whatever model is champion then.
    """
    if (cron is None) != delete:
        raise typer.BadParameter("give either --cron or --delete")
    with clean_errors():
        name = name or PIPELINES[pipeline]
        if cron is None:
            _delete(name, dry_run, endpoint, namespace, token)
        else:
            given, connection = _given(image, parameters), (endpoint, namespace, token)
            _update(name, pipeline, cron, config, overrides, given, service_account, dry_run, connection)


def status(
    run_id: Annotated[str | None, typer.Argument(metavar="RUN_ID", help="Only this run, with its steps.")] = None,
    last: Annotated[int, typer.Option(min=1, max=100, help="How many runs.")] = 5,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token: Token = None,
) -> None:
    """The last runs on the cluster with the newest one's steps, and the schedules."""
    with clean_errors():
        from pipeline.cluster.client import connect
        from pipeline.cluster.schedule import schedules
        from pipeline.cluster.submission import get_run, recent_runs

        cluster = connect(endpoint, namespace, token)
        if run_id:
            _show_run(cluster, get_run(cluster, run_id).run_id)
            return
        runs = recent_runs(cluster, last)
        for run in runs[1:][::-1]:
            typer.echo(f"{run.display_name}  {run.run_id}  {(run.state or 'PENDING').lower()}")
        if runs:
            _show_run(cluster, runs[0].run_id)
        else:
            typer.echo("No runs yet: `sella submit` starts one.")
        for found in schedules(cluster):
            cron = found.trigger.cron_schedule.cron if found.trigger and found.trigger.cron_schedule else "no cron"
            typer.echo(f"Schedule {found.display_name}: {cron} ({found.mode.lower()}d)")


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
    time, batch = schedule_.SCHEDULED_TIME, schedule_.SCHEDULED_BATCH
    parameters = submission.arguments(loaded, package, time, given, time, batch)
    wanted = schedule_.Schedule(name, fields, package, parameters, service_account)
    differences = schedule_.update(connect(*connection), wanted, dry_run)
    for line in differences:
        typer.echo(line)
    done = "would be set" if dry_run else "set"
    typer.echo(f"Schedule {name}: {done if differences else 'as wanted already'}")


def _given(image: str | None, parameters: list[str] | None) -> list[str]:
    return [*([f"image={image}"] if image else []), *(parameters or [])]


def _delete(name: str, dry_run: bool, endpoint: str | None, namespace: str | None, token: str | None) -> None:
    from pipeline.cluster import schedule as schedule_
    from pipeline.cluster.client import connect

    count = schedule_.delete(connect(endpoint, namespace, token), name, dry_run)
    done = "would be deleted" if dry_run else "deleted"
    typer.echo(f"Schedule {name}: {done if count else 'there is none'}")


def _warn_of_local_paths(config: Config) -> None:
    data = config.data
    given = {"interactions": data.interactions, "items": data.items, "source": data.source}
    named = {f"data.{field}": value for field, value in given.items()} | {"backbone.name": config.backbone.name}
    for field, value in named.items():
        # a volume may well be mounted at the same place here and there, so this is no error
        if value and Path(value).exists():
            typer.echo(f"{field}={value} is a path of this machine: the steps' pods need the same there", err=True)


def _show_run(cluster: KfpConnection, run_id: str) -> None:
    from pipeline.cluster.submission import explain_end, get_run, nothing_to_do, step_states

    run = get_run(cluster, run_id)
    typer.echo(f"{run.display_name}  {run.run_id}  {(run.state or 'PENDING').lower()}  {_link(cluster, run_id)}")
    for step, state in step_states(run).items():
        typer.echo(f"  {step}: {state.lower()}")
    if nothing_to_do(run):
        typer.echo(f"  {_NOTHING_TO_DO}")
    if run.state == "FAILED":
        typer.echo(explain_end(cluster, run))


def _link(cluster: KfpConnection, run_id: str) -> str:
    return cluster.run_link(run_id) or "(set KF_PIPELINES_UI_ENDPOINT to see its page's address)"
