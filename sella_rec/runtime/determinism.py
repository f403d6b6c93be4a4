"""Runs that are reproducible: bit for bit on the same machine, up to rounding on others."""

from __future__ import annotations

import os

import torch


def make_deterministic() -> None:
    """For the rest of the process: one CPU thread, and only algorithms whose result is the same every time.

    Sums over threads are taken in the order in which they finish, hence one thread: slower, but reproducible.
    torch raises RuntimeError where it has no deterministic algorithm.
    """
    # cuBLAS reads it when it is first used
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
