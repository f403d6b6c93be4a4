"""`python -m sella_rec.serving`, and `sella serve`: the champion behind HTTP."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sella_rec.tracking.registry import CHAMPION, RegistryError
from sella_rec.tracking.server import answer_soon, prepare_client

_DATABASE = "mlflow.db"
_DESCRIPTION = """\
Serves a registered model with MLflow's scoring server: POST /invocations, GET /version, /ping (ready), /health (alive).
The champion's successor is loaded beside it and takes over without a lost request. The registry is that of
MLFLOW_TRACKING_URI, or else mlflow.db here; what is downloaded is kept under $SELLA_CACHE, or else .cache here."""


def parse(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """The command line; exits on `--help` and on errors."""
    parser = argparse.ArgumentParser(prog=prog, description=_DESCRIPTION)
    add = parser.add_argument
    add("--name", default="sella-rec", help="registered model (%(default)s)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--alias", default=CHAMPION, help="whose version is served, now and when it moves (%(default)s)")
    which.add_argument("--model-uri", metavar="URI", help="serve this model and no other: a folder or MLflow's URI")
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on; others than %(default)s let anybody in who gets there",
    )
    add("--port", type=int, default=8080, help="%(default)s")
    add("--wait", action="store_true", help="start without a champion, not ready until there is one")
    add("--poll-seconds", type=_positive, default=30, metavar="S", help="between two looks at the alias (%(default)s)")
    add(
        "--drain-seconds", type=float, default=5, metavar="S", help="of SIGTERM: answering, yet not ready (%(default)s)"
    )
    add("--concurrency", type=_count, default=1, metavar="N", help="model calls at once, sharing cores (%(default)s)")
    add("--queue", type=_count, default=16, metavar="N", help="requests that wait; the next gets 503 (%(default)s)")
    add("--max-bytes", type=_count, default=2**20, metavar="N", help="of a request's body, else 413 (%(default)s)")
    add("--max-items", type=_count, default=1000, metavar="N", help="candidates of a request, else 400 (%(default)s)")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("has to be 1 or more")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("has to be more than 0")
    return value


def main(arguments: Sequence[str] | None = None, prog: str = "python -m sella_rec.serving") -> None:
    """Serve until a signal ends it.

    Raises:
        SystemExit: 1 with one message where there is nothing to serve.
    """
    options = parse(sys.argv[1:] if arguments is None else arguments, prog)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if "MLFLOW_TRACKING_URI" not in os.environ:
        if not options.model_uri and not Path(_DATABASE).exists():
            sys.exit(f"no {_DATABASE} here: `sella run` makes one; or set MLFLOW_TRACKING_URI")
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
        follower = AliasWatcher(gateway, options.name, options.alias, options.max_items, options.poll_seconds)
        if not options.wait:
            follower.update()
        follower.start()
    Server(gateway, options.host, options.port, options.drain_seconds).run()


if __name__ == "__main__":
    main()
