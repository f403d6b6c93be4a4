"""The prepared data set: the folder that prepare-data writes and every later step reads.

`train.parquet`, `valid.parquet`, `test.parquet`: user_id, item_id, timestamp (int64, Unix seconds), label (int8),
history (list of item_id, oldest first), warm (bool); `items.parquet`: item_id, title, in_train;
`users.parquet`: user_id, in_train; `report.json`: counts; the training reference (see `training_reference`). Row r of
users and items has index r + 1; 0 is padding and stands for an unknown user.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Split:
    """Rows of one split as arrays over indices; n rows, H = longest history.

    Attributes:
        user: int64 [n], 1-based.
        item: int64 [n], 1-based.
        label: float32 [n], 0 or 1.
        timestamp: int64 [n], Unix seconds.
        history: int64 [n, H], oldest first, padded with 0 on the right.
        warm: bool [n], user and item both occur in train.
    """

    user: np.ndarray
    item: np.ndarray
    label: np.ndarray
    timestamp: np.ndarray
    history: np.ndarray
    warm: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Split:
        """The given rows (indices or a boolean mask), in that order."""
        return Split(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


class PreparedData:
    """Reads a prepare-data output folder; splits are loaded when first asked for."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.users = pl.read_parquet(self.folder / "users.parquet")
        self.items = pl.read_parquet(self.folder / "items.parquet")

    @property
    def n_users(self) -> int:
        return self.users.height

    @property
    def n_items(self) -> int:
        return self.items.height

    @property
    def titles(self) -> list[str]:
        """Titles by item index; entry 0 is the empty title of the padding item."""
        return ["", *self.items["title"].to_list()]

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return report

    @cached_property
    def train(self) -> Split:
        return self._load("train")

    @cached_property
    def valid(self) -> Split:
        return self._load("valid")

    @cached_property
    def test(self) -> Split:
        return self._load("test")

    def _load(self, name: str) -> Split:
        frame = pl.read_parquet(self.folder / f"{name}.parquet")
        users = self.users.select("user_id", user=pl.int_range(1, self.n_users + 1, dtype=pl.Int64))
        items = self.items.select("item_id", item=pl.int_range(1, self.n_items + 1, dtype=pl.Int64))
        frame = frame.join(users, on="user_id", how="left", maintain_order="left")
        frame = frame.join(items, on="item_id", how="left", maintain_order="left")
        return Split(
            user=frame["user"].to_numpy(),
            item=frame["item"].to_numpy(),
            label=frame["label"].cast(pl.Float32).to_numpy(),
            timestamp=frame["timestamp"].to_numpy(),
            history=_pad(frame["history"], items),
            warm=frame["warm"].to_numpy(),
        )


def _pad(history: pl.Series, items: pl.DataFrame) -> np.ndarray:
    lengths = history.list.len().cast(pl.Int64).to_numpy()
    padded = np.zeros((len(history), max(1, int(lengths.max(initial=0)))), dtype=np.int64)
    flat = pl.DataFrame(
        {"item_id": history.explode(empty_as_null=False, keep_nulls=False).cast(items["item_id"].dtype)}
    )
    flat_items = flat.join(items, on="item_id", how="left", maintain_order="left")["item"].to_numpy()
    rows = np.repeat(np.arange(len(history)), lengths)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    padded[rows, np.arange(len(flat_items)) - starts] = flat_items
    return padded
