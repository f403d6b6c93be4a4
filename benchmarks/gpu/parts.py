"""The parts by name, and how long each may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.gpu.shapes import GPU, REHEARSAL, Row, Scale

# seconds; in the order of importance, 480 in all
LIMITS = {"tune": 130, "score": 100, "fuse": 60, "quickstart": 60, "collab": 60, "serve": 70}


def run_part(name: str, rehearse: bool) -> Iterator[Row]:
    """The figures of a part, one after the other as they are measured."""
    return _parts()[name](REHEARSAL if rehearse else GPU)


def _parts() -> dict[str, Callable[[Scale], Iterator[Row]]]:
    # late: they take seconds, and the process that watches needs none of them
    from benchmarks.gpu import collab, scoring, server, training

    return {
        "tune": training.tune,
        "score": scoring.score,
        "fuse": training.fuse,
        "quickstart": training.quickstart,
        "collab": collab.collab,
        "serve": server.serve,
    }
