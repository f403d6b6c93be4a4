"""What the processes of a distributed training have to agree on."""

from __future__ import annotations

from typing import TypeVar

from torch import distributed

T = TypeVar("T")


def broadcast_from_rank_zero(mine: T) -> T:
    """The first process's value, anything that can be pickled; `mine` if there is only one process."""
    if not distributed.is_initialized():
        return mine
    values = [mine]
    distributed.broadcast_object_list(values)
    return values[0]
