"""The command `sella`. Heavy libraries are imported by the commands that need them, so that help is quick."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import cluster, registry
from pipeline.cli.common import clean_errors, load, open_console
from pipeline.cli.options import ConfigFile, Overrides

app = typer.Typer(
    name="sella",
    help="SeLLa-Rec: a recommender that combines titles (an LLM) with who liked what (collaborative filtering).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_LATEST_BUNDLE = Path("runs/latest/bundle")

Interactions = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Interactions: user_id, item_id, timestamp, and rating or label; a file, folder or fsspec URI.",
    ),
]
Items = Annotated[
    str | None, typer.Option(metavar="FILE", help="Items: item_id and title; a file, folder or fsspec URI.")
]
Source = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Folder or zip with the files of a named data set. Default: download them."),
]
BundleFolder = Annotated[Path, typer.Option("--bundle", metavar="DIR", help="Folder of a trained model.")]


@app.command()
def run(
    config: ConfigFile = None,
    overrides: Overrides = None,
    interactions: Interactions = None,
    items: Items = None,
    source: Source = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="LLM to use: a folder or a Hugging Face hub name.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the last run, from its finished steps and checkpoints.")
    ] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every step, even if its result is cached.")] = False,
) -> None:
    """Train SeLLa-Rec and compare it with MF, LightGCN and a text-only LLM.

    By default with the packaged MovieLens ratings and the packaged 135M LLM. Results are in runs/latest.
    """
    with clean_errors():
        from pipeline.local.run import Stopped, start
        from pipeline.local.run import resume as resume_last
        from pipeline.local.summary import show_summary

        console = open_console()
        given = [config, overrides, interactions, items, source, backbone, no_cache or None]
        if resume and any(option is not None for option in given):
            raise typer.BadParameter(
                "a resumed run keeps its configuration and cache: use --resume without other options"
            )
        try:
            if resume:
                finished = resume_last(console)
            else:
                wanted = load(config, overrides, interactions, items, source, backbone)
                finished = start(wanted, console, cache=not no_cache)
        except Stopped as stopped:
            typer.echo("Stopped. Continue with `sella run --resume`.", err=True)
            raise typer.Exit(stopped.code) from None
        show_summary(finished, console)


@app.command(name="compile")
def compile_(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write the files to.")] = Path(),
) -> None:
    """Compile the pipelines to YAML for Kubeflow Pipelines: pipeline.yaml and recommend.yaml."""
    with clean_errors():
        from pipeline.compile import BEGINS, FILES, compile_pipeline
        from sella_rec.outputs import check_output_file, output_file

        # both before the first is written
        for pipeline, name in FILES.items():
            check_output_file(output / name, BEGINS[pipeline], beside=output / "compiled")
        for pipeline, name in FILES.items():
            with output_file(output / name, BEGINS[pipeline], beside=output / "compiled") as file:
                compile_pipeline(file, pipeline)
            typer.echo(f"wrote {output / name}")


@app.command()
def data(
    config: ConfigFile = None,
    overrides: Overrides = None,
    interactions: Interactions = None,
    items: Items = None,
    source: Source = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder to write the prepared splits and items to (Parquet), with the report: a new or empty one, or "
            "one that this command wrote.",
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as a page, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Validate and describe a data set without training."""
    with clean_errors():
        from pipeline.local.describe import describe_data

        describe_data(load(config, overrides, interactions, items, source), output, html, as_json, open_console())


@app.command()
def score(
    bundle: BundleFolder = _LATEST_BUNDLE,
    pairs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV file with columns user_id and item_id; scores keep its order."),
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="USER_ID", help="One user, instead of --pairs.")] = None,
    item: Annotated[
        list[str] | None, typer.Option(metavar="ITEM_ID", help="Item to score for --user; repeatable.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV file to write. Default: print the scores.")
    ] = None,
) -> None:
    """Score pairs of users and items: P(like), how likely the user is to like the item."""
    if (pairs is None) == (user is None or not item):
        raise typer.BadParameter("use either --pairs FILE, or --user USER_ID with --item ITEM_ID")
    with clean_errors():
        from pipeline.predict.scores import SCORES_BEGIN, one_users_pairs, read_pairs, score_pairs
        from sella_rec.outputs import output_file

        with output_file(output, SCORES_BEGIN, [pairs] if pairs else []) if output else nullcontext() as file:
            wanted = read_pairs(pairs) if pairs else one_users_pairs(str(user), item or [])
            scores = score_pairs(bundle, wanted)
            if file:
                scores.write_csv(file)
        if output:
            typer.echo(f"wrote {scores.height} scores to {output}")
        else:
            typer.echo(scores.write_csv(), nl=False)


@app.command()
def recommend(
    user_id: Annotated[str | None, typer.Argument(metavar="[USER_ID]", help="User, as in the interactions.")] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(metavar="TITLE", help="Liked title or item_id of a new user, oldest first; repeatable."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of items per user.")] = 10,
    retrieve: Annotated[
        int, typer.Option(min=1, help="Number of candidates that the LLM ranks, chosen by the collaborative model.")
    ] = 100,
    bundle: BundleFolder = _LATEST_BUNDLE,
    champion: Annotated[
        bool, typer.Option("--champion", help="With --all: use the registry's champion instead of --bundle.")
    ] = False,
    everybody: Annotated[
        bool, typer.Option("--all", help="Recommend to all users of the model; needs --output.")
    ] = False,
    output: Annotated[
        str | None, typer.Option(metavar="DIR", help="With --all: folder or fsspec URI to write Parquet files to.")
    ] = None,
    shards: Annotated[int, typer.Option(min=1, help="With --all: number of parts; finished ones are kept.")] = 16,
    workers: Annotated[int, typer.Option(min=1, help="With --all: number of processes; each loads the model.")] = 1,
) -> None:
    """Recommend items that a user has not rated yet; with --all, to every user.

    To continue a stopped batch, run the same command again.
    """
    if everybody == bool(user_id is not None or history):
        raise typer.BadParameter("give a USER_ID, or the likes of a new user with --history TITLE, or --all")
    if everybody != (output is not None):
        raise typer.BadParameter("use --all and --output DIR together")
    if champion and (not everybody or bundle != _LATEST_BUNDLE):
        raise typer.BadParameter("use --champion with --all and without --bundle")
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
    champion: Annotated[
        bool, typer.Option("--champion", help="Show the registry's champion instead of --bundle.")
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8000,
    retrieve: Annotated[
        int, typer.Option(min=1, help="Number of candidates that all models rank; more take longer.")
    ] = 50,
) -> None:
    """Show a web page, on this machine only, that compares the collaborative model, the text-only LLM and SeLLa-Rec."""
    if champion and bundle != _LATEST_BUNDLE:
        raise typer.BadParameter("use --champion or --bundle, not both")
    with clean_errors():
        from pipeline.predict.demo.serve import serve

        serve(None if champion else bundle, port, retrieve)


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(context: typer.Context) -> None:
    """Serve the champion over HTTP, by default on this machine only; --help lists the options."""
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
