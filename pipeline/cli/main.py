"""The command `sella`. Heavy libraries are imported by the commands that need them: help has to be quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import cluster, registry
from pipeline.cli.common import clean_errors, load, open_console
from pipeline.cli.options import ConfigFile, Overrides

app = typer.Typer(
    name="sella",
    help="SeLLa-Rec: a recommender that knows both the titles (an LLM) and the crowd (collaborative filtering).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_LATEST_BUNDLE = Path("runs/latest/bundle")

Interactions = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="user_id, item_id, timestamp and rating or label; file, folder or fsspec URI."),
]
Items = Annotated[str | None, typer.Option(metavar="FILE", help="item_id and title; file, folder or fsspec URI.")]
Source = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Folder or zip with a named data set's files; without it, they are downloaded."),
]
BundleFolder = Annotated[Path, typer.Option("--bundle", metavar="DIR", help="A trained model.")]


@app.command()
def run(
    config: ConfigFile = None,
    overrides: Overrides = None,
    interactions: Interactions = None,
    items: Items = None,
    source: Source = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="LLM: a folder or a Hugging Face hub name.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the last run: finished steps and checkpoints are kept.")
    ] = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Run every step, even those whose result is known.")
    ] = False,
) -> None:
    """Train SeLLa-Rec and compare it with MF, LightGCN and a text-only LLM.

    Without options: on the packaged MovieLens ratings with the packaged 135M LLM. Results go to runs/latest.
    """
    with clean_errors():
        from pipeline.local.run import Stopped, start
        from pipeline.local.run import resume as go_on
        from pipeline.local.summary import show_summary

        console = open_console()
        given = [config, overrides, interactions, items, source, backbone, no_cache or None]
        if resume and any(option is not None for option in given):
            raise typer.BadParameter("a resumed run keeps its configuration and cache: give --resume alone")
        try:
            if resume:
                finished = go_on(console)
            else:
                wanted = load(config, overrides, interactions, items, source, backbone)
                finished = start(wanted, console, cache=not no_cache)
        except Stopped as stopped:
            typer.echo("Stopped. `sella run --resume` goes on from here.", err=True)
            raise typer.Exit(stopped.code) from None
        show_summary(finished, console)


@app.command(name="compile")
def compile_(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where to write them.")] = Path(),
) -> None:
    """Compile the pipelines to the YAML that Kubeflow Pipelines runs: pipeline.yaml and recommend.yaml."""
    from pipeline.compile import FILES, compile_pipeline

    for pipeline, name in FILES.items():
        compile_pipeline(output / name, pipeline)
        typer.echo(f"wrote {output / name}")


@app.command()
def data(
    config: ConfigFile = None,
    overrides: Overrides = None,
    interactions: Interactions = None,
    items: Items = None,
    source: Source = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the prepared splits and items (Parquet) here.")
    ] = None,
) -> None:
    """Validate and describe a data set, without training."""
    with clean_errors():
        from pipeline.local.describe import describe_data

        describe_data(load(config, overrides, interactions, items, source), output, open_console())


@app.command()
def score(
    bundle: BundleFolder = _LATEST_BUNDLE,
    pairs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV with columns user_id and item_id to score, in its order.")
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="USER_ID", help="Instead of --pairs: one user.")] = None,
    item: Annotated[list[str] | None, typer.Option(metavar="ITEM_ID", help="With --user; repeatable.")] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="CSV to write; without it, print.")] = None,
) -> None:
    """How likely users are to like items: P(like) for each pair."""
    if (pairs is None) == (user is None or not item):
        raise typer.BadParameter("give either --pairs FILE, or --user USER_ID with --item ITEM_ID")
    with clean_errors():
        from pipeline.predict.scores import one_users_pairs, read_pairs, score_pairs

        wanted = read_pairs(pairs) if pairs else one_users_pairs(str(user), item or [])
        scores = score_pairs(bundle, wanted)
        if output:
            scores.write_csv(output)
            typer.echo(f"wrote {scores.height} scores to {output}")
        else:
            typer.echo(scores.write_csv(), nl=False)


@app.command()
def recommend(
    user_id: Annotated[str | None, typer.Argument(metavar="[USER_ID]", help="As in the interactions.")] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(metavar="TITLE", help="Liked titles or item_ids, oldest first, for somebody new; repeatable."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    retrieve: Annotated[
        int, typer.Option(min=1, help="How many the LLM ranks; the collaborative model chooses them.")
    ] = 100,
    bundle: BundleFolder = _LATEST_BUNDLE,
    champion: Annotated[
        bool, typer.Option("--champion", help="With --all: the registry's champion instead of --bundle.")
    ] = False,
    everybody: Annotated[bool, typer.Option("--all", help="All users of the model; with --output.")] = False,
    output: Annotated[
        str | None, typer.Option(metavar="DIR", help="With --all: folder or fsspec URI, for Parquet files.")
    ] = None,
    shards: Annotated[
        int, typer.Option(min=1, help="With --all: how many parts; a finished one is not done again.")
    ] = 16,
    workers: Annotated[int, typer.Option(min=1, help="With --all: processes, each with the model in memory.")] = 1,
) -> None:
    """The best items that a user has not rated yet; with --all, for every user.

    A batch that was stopped goes on when the same command is given again.
    """
    if everybody == bool(user_id is not None or history):
        raise typer.BadParameter("give a USER_ID, or what somebody new liked with --history TITLE, or --all")
    if everybody != (output is not None):
        raise typer.BadParameter("--all and --output DIR go together")
    if champion and (not everybody or bundle != _LATEST_BUNDLE):
        raise typer.BadParameter("--champion goes with --all, and without --bundle")
    with clean_errors():
        if output is None:
            from pipeline.predict.scores import show_recommendations

            show_recommendations(bundle, user_id, history or [], top, retrieve, open_console())
        else:
            from pipeline.predict.batch import recommend_all
            from sella_rec.config import RecommendConfig

            sizes = RecommendConfig(top_n=top, retrieve=retrieve)
            recommend_all(None if champion else bundle, output, sizes, shards, workers, open_console())


@app.command()
def demo(
    bundle: BundleFolder = _LATEST_BUNDLE,
    champion: Annotated[bool, typer.Option("--champion", help="The registry's champion instead of --bundle.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 8000,
    retrieve: Annotated[int, typer.Option(min=1, help="How many candidates all arms rank; more take longer.")] = 50,
) -> None:
    """A web page, on this machine only: what the crowd, the text-only LLM and SeLLa-Rec recommend, side by side."""
    if champion and bundle != _LATEST_BUNDLE:
        raise typer.BadParameter("give --champion or --bundle, not both")
    with clean_errors():
        from pipeline.predict.demo.serve import serve

        serve(None if champion else bundle, port, retrieve)


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(context: typer.Context) -> None:
    """Serve the champion over HTTP, on this machine only; --help lists the options."""
    # its own options: the server runs without this package, and without typer
    from sella_rec.serving.__main__ import main as serve_main

    serve_main(context.args, "sella serve")


cluster.register(app)
registry.register(app)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
