"""`python -m sella_rec.serving`, and `sella serve`: the champion behind HTTP."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sella_rec.names import REGISTERED_MODEL
from sella_rec.tracking.registry import CHAMPION, RegistryError
from sella_rec.tracking.server import answer_soon, prepare_client

_DATABASE = "mlflow.db"
_DESCRIPTION = """\
Serve a registered model with MLflow's scoring server: POST /invocations, GET /version, /ping (ready), /health (alive).
When the alias moves, the new version is loaded alongside the old one and replaces it without losing a request. The
registry is the one at MLFLOW_TRACKING_URI; if that is not set, mlflow.db in the current folder. Downloads are kept in
$SELLA_CACHE; if that is not set, in .cache in the current folder."""


def parse(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """The command line; exits on `--help` and on errors."""
    parser = argparse.ArgumentParser(prog=prog, description=_DESCRIPTION)
    add = parser.add_argument
    add("--name", default=REGISTERED_MODEL, help="name of the registered model (default: %(default)s)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--alias", default=CHAMPION, help="alias of the version to serve; followed when it moves (default: %(default)s)"
    )
    which.add_argument("--model-uri", metavar="URI", help="serve only this model: a folder or an MLflow model URI")
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s); with any other, everyone who can reach it has access",
    )
    add("--port", type=int, default=8080, help="port to listen on (default: %(default)s)")
    add("--wait", action="store_true", help="start even if there is no champion; not ready until there is one")
    add(
        "--poll-seconds",
        type=_positive,
        default=30,
        metavar="S",
        help="seconds between two checks of the alias (default: %(default)s)",
    )
    add(
        "--drain-seconds",
        type=float,
        default=5,
        metavar="S",
        help="seconds after SIGTERM in which it still answers but is not ready (default: %(default)s)",
    )
    add(
        "--concurrency",
        type=_count,
        default=1,
        metavar="N",
        help="model calls at the same time, sharing the cores (default: %(default)s)",
    )
    add(
        "--queue",
        type=_count,
        default=16,
        metavar="N",
        help="most requests that wait; further ones get 503 (default: %(default)s)",
    )
    add(
        "--max-bytes",
        type=_count,
        default=2**20,
        metavar="N",
        help="largest request body in bytes; larger ones get 413 (default: %(default)s)",
    )
    add(
        "--max-items",
        type=_count,
        default=1000,
        metavar="N",
        help="most candidates in a request; more get 400 (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {text})")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be greater than 0 (got {text})")
    return value


def main(arguments: Sequence[str] | None = None, prog: str = "python -m sella_rec.serving") -> None:
    """Serve until a signal ends it.

    Raises:
        SystemExit: 1 with one message if there is nothing to serve.
    """
    options = parse(sys.argv[1:] if arguments is None else arguments, prog)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if "MLFLOW_TRACKING_URI" not in os.environ:
        if not options.model_uri and not Path(_DATABASE).exists():
            sys.exit(f"no {_DATABASE} in this folder: create one with `sella run`, or set MLFLOW_TRACKING_URI")
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{_DATABASE}"
    prepare_client()
    answer_soon()
    # a server's log is not a terminal
    os.environ |= {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    from mlflow import MlflowException

    try:
        serve(options)
    except RegistryError as error:
        sys.exit(str(error))
    except MlflowException as error:
        sys.exit(f"the registry of MLFLOW_TRACKING_URI cannot be used: {error}")


def serve(options: argparse.Namespace) -> None:
    """Load the model, then listen; with `--wait` the other way round.

    Raises:
        RegistryError: nothing to serve, or it does not work.
    """
    import torch

    from sella_rec.serving.alias_watcher import AliasWatcher, from_uri
    from sella_rec.serving.gateway import Gateway, Limits
    from sella_rec.serving.server import Server

    torch.set_num_threads(max(1, torch.get_num_threads() // options.concurrency))
    gateway = Gateway(Limits(options.max_bytes, options.concurrency, options.queue))
    if options.model_uri:
        gateway.served = from_uri(options.model_uri, options.max_items)
    else:
        watcher = AliasWatcher(gateway, options.name, options.alias, options.max_items, options.poll_seconds)
        if not options.wait:
            watcher.update()
        watcher.start()
    Server(gateway, options.host, options.port, options.drain_seconds).run()


if __name__ == "__main__":
    main()
