"""PreparedData turns the folder's ids into 1-based indices, with 0 for padding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sella_rec.data.dataset import SPLITS, PreparedData


def write(
    folder: Path, rows: list[tuple[Any, Any, int, int, list[Any], bool]], users: list[Any], items: list[Any]
) -> PreparedData:
    item_type = pl.String if isinstance(items[0], str) else pl.Int64
    user_type = pl.String if isinstance(users[0], str) else pl.Int64
    schema: Any = {
        "user_id": user_type,
        "item_id": item_type,
        "timestamp": pl.Int64,
        "label": pl.Int8,
        "history": pl.List(item_type),
        "warm": pl.Boolean,
    }
    for name in SPLITS:
        pl.DataFrame(rows, schema=schema, orient="row").write_parquet(folder / f"{name}.parquet")
    pl.DataFrame({"user_id": users, "in_train": True}).write_parquet(folder / "users.parquet")
    pl.DataFrame({"item_id": items, "title": [f"T{i}" for i in items], "in_train": True}).write_parquet(
        folder / "items.parquet"
    )
    (folder / "report.json").write_text(json.dumps({"rows": len(rows)}))
    return PreparedData(folder)


def test_ids_become_one_based_indices(tmp_path: Path) -> None:
    rows = [("v", 30, 5, 1, [10, 20], True), ("u", 10, 6, 0, [], False), ("u", 20, 7, 1, [30], True)]
    prepared = write(tmp_path, rows, ["u", "v"], [10, 20, 30])
    split = prepared.train
    assert split.user.tolist() == [2, 1, 1]
    assert split.item.tolist() == [3, 1, 2]
    assert split.history.tolist() == [[1, 2], [0, 0], [3, 0]]
    assert split.label.tolist() == [1.0, 0.0, 1.0]
    assert split.timestamp.tolist() == [5, 6, 7]
    assert split.warm.tolist() == [True, False, True]
    kinds = {name: getattr(split, name).dtype for name in split.__dataclass_fields__}
    integer = np.dtype(np.int64)
    assert kinds == {
        "user": integer,
        "item": integer,
        "timestamp": integer,
        "history": integer,
        "label": np.dtype(np.float32),
        "warm": np.dtype(bool),
    }
    assert (prepared.n_users, prepared.n_items) == (2, 3)
    assert prepared.titles == ["", "T10", "T20", "T30"]
    assert prepared.report == {"rows": 3}


@pytest.mark.parametrize("item", [7, "x"])
def test_histories_that_are_all_empty(tmp_path: Path, item: Any) -> None:
    prepared = write(tmp_path, [("u", item, 1, 1, [], True), ("u", item, 2, 0, [], True)], ["u"], [item])
    assert prepared.valid.history.tolist() == [[0], [0]]


def test_split_without_rows(tmp_path: Path) -> None:
    split = write(tmp_path, [], ["u"], ["x"]).test
    assert len(split) == 0
    assert split.history.shape == (0, 1)


def test_random_histories_of_every_length(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = sorted(rng.choice(10_000, 200, replace=False).tolist())
    picks = [rng.choice(items, rng.integers(0, 11), replace=False).tolist() for _ in range(300)]
    prepared = write(tmp_path, [(1, items[0], t, 1, pick, True) for t, pick in enumerate(picks)], [1], items)
    for got, pick in zip(prepared.train.history, picks, strict=True):
        assert got.tolist() == [items.index(i) + 1 for i in pick] + [0] * (10 - len(pick))


def test_take_keeps_the_given_order(tmp_path: Path) -> None:
    rows = [("u", "x", t, t % 2, ["x"] * (t % 3), t % 2 == 0) for t in range(5)]
    split = write(tmp_path, rows, ["u"], ["x"]).train
    assert split.take(np.array([3, 1])).timestamp.tolist() == [3, 1]
    assert split.take(split.warm).timestamp.tolist() == [0, 2, 4]
    assert split.take(split.warm).history.shape == (3, 2)


def test_every_split_reads_its_own_file(tmp_path: Path) -> None:
    prepared = write(tmp_path, [("u", "x", 1, 1, [], True)], ["u"], ["x"])
    frame = pl.read_parquet(tmp_path / "test.parquet")
    frame.with_columns(timestamp=pl.lit(9, dtype=pl.Int64)).write_parquet(tmp_path / "test.parquet")
    assert (prepared.train.timestamp[0], prepared.test.timestamp[0]) == (1, 9)
