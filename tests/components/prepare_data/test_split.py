"""Splits and histories against brute force over every row, on random data full of ties."""

from __future__ import annotations

from fractions import Fraction
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare_data import split as split_module
from components.prepare_data.split import histories, split_rows
from sella_rec.config import DataConfig
from sella_rec.data.errors import DataError

Row = dict[str, Any]
SCHEMA = {"user_id": pl.Int64, "item_id": pl.Int64, "timestamp": pl.Int64, "label": pl.Int8}
PAIRS = st.tuples(st.integers(1, 6), st.integers(1, 15))


@st.composite
def interactions(draw: st.DrawFn) -> pl.DataFrame:
    """At most 60 rows of distinct (user, item), in any order, at 8 moments: ties are the rule."""
    pairs = draw(st.lists(PAIRS, min_size=1, max_size=60, unique=True))
    moments = draw(st.lists(st.integers(0, 7), min_size=len(pairs), max_size=len(pairs)))
    likes = draw(st.lists(st.integers(0, 1), min_size=len(pairs), max_size=len(pairs)))
    rows = [(u, i, 100 + t, y) for (u, i), t, y in zip(pairs, moments, likes, strict=True)]
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return frame.with_columns(pl.col("item_id").cast(pl.String)) if draw(st.booleans()) else frame


def brute_force_history(rows: list[Row], row: Row, length: int) -> list[Any]:
    """From the definition, `rows` in input order: liked by the user before, oldest first, ties in input order."""
    mine = [r for r in rows if r["user_id"] == row["user_id"] and r["label"] == 1]
    before = [r for r in mine if r["timestamp"] < row["timestamp"]]
    return [r["item_id"] for r in sorted(before, key=lambda r: r["timestamp"])][-length:]


def no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_module, "_check", lambda *_: None)


@pytest.mark.parametrize(("how", "chunk"), [("per_user", 3), ("by_time", 1 << 20)])
def test_histories_equal_brute_force_and_never_hold_the_future(
    monkeypatch: pytest.MonkeyPatch, how: str, chunk: int
) -> None:
    no_checks(monkeypatch)
    monkeypatch.setattr(split_module, "_CHUNK_ROWS", chunk)

    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(interactions(), st.integers(1, 6))
    def check(frame: pl.DataFrame, length: int) -> None:
        config = DataConfig.model_validate({"split": how, "history_length": length})
        rows = frame.to_dicts()
        when = {(r["user_id"], r["item_id"]): (r["timestamp"], r["label"]) for r in rows}
        result = split_rows(frame, config)
        assert result.height == frame.height
        for row in result.iter_rows(named=True):
            assert row["history"] == brute_force_history(rows, row, length)
            for item in row["history"]:
                moment, label = when[row["user_id"], item]
                assert moment < row["timestamp"]
                assert label == 1

    check()


def per_user_oracle(rows: list[Row], valid: Fraction, test: Fraction) -> dict[tuple[int, Any], str]:
    splits = {}
    ordered = sorted(rows, key=lambda r: (r["user_id"], r["timestamp"]))
    for _, group in groupby(ordered, key=lambda r: r["user_id"]):
        mine = list(group)
        n_test, n_valid = (max(1, int(len(mine) * share)) if len(mine) >= 3 else 0 for share in (test, valid))
        names = ["train"] * (len(mine) - n_test - n_valid) + ["valid"] * n_valid + ["test"] * n_test
        splits.update({(r["user_id"], r["item_id"]): name for r, name in zip(mine, names, strict=True)})
    return splits


def test_per_user_split_and_warm_equal_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    no_checks(monkeypatch)

    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(interactions(), st.integers(1, 49), st.integers(1, 49))
    def check(frame: pl.DataFrame, valid: int, test: int) -> None:
        result = split_rows(frame, DataConfig(valid_fraction=valid / 100, test_fraction=test / 100))
        oracle = per_user_oracle(frame.to_dicts(), Fraction(valid, 100), Fraction(test, 100))
        got = {(r["user_id"], r["item_id"]): r["split"] for r in result.iter_rows(named=True)}
        assert got == oracle
        assert_invariants(result)

    check()


def assert_invariants(result: pl.DataFrame) -> None:
    order = {"train": 0, "valid": 1, "test": 2}
    rows = result.to_dicts()
    train = [r for r in rows if r["split"] == "train"]
    users, items = {r["user_id"] for r in train}, {r["item_id"] for r in train}
    assert all(r["warm"] == (r["user_id"] in users and r["item_id"] in items) for r in rows)
    for a, b in pairwise(rows):
        assert (a["user_id"], a["timestamp"]) <= (b["user_id"], b["timestamp"])
        assert a["user_id"] != b["user_id"] or order[a["split"]] <= order[b["split"]]


def test_by_time_never_splits_a_moment_and_takes_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    no_checks(monkeypatch)

    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(interactions(), st.integers(1, 49), st.integers(1, 49))
    def check(frame: pl.DataFrame, valid: int, test: int) -> None:
        config = DataConfig(split="by_time", valid_fraction=valid / 100, test_fraction=test / 100)
        result = split_rows(frame, config)
        assert_invariants(result)
        assert result.group_by("timestamp").agg(pl.col("split").n_unique())["split"].max() == 1
        newest = sorted(frame["timestamp"], reverse=True)
        n_test = max(1, len(newest) * test // 100)
        # the cut is at the moment of the n_test-th newest row, and that moment is wholly test
        in_test = result.filter(pl.col("split") == "test")["timestamp"]
        assert in_test.len() == sum(t >= newest[n_test - 1] for t in newest)
        n_valid = max(1, len(newest) * valid // 100)
        after_train = result.filter(pl.col("split") != "train").height
        assert after_train == sum(t >= newest[min(n_test + n_valid, len(newest)) - 1] for t in newest)

    check()


def test_by_time_with_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    days = pl.datetime_range(pl.datetime(2020, 1, 1), pl.datetime(2020, 1, 8), "12h", eager=True).dt.epoch("s")
    n = len(days)
    labels = [0, 1] * (n // 2) + [0]
    frame = pl.DataFrame({"user_id": [1] * n, "item_id": range(n), "timestamp": days, "label": labels}, schema=SCHEMA)
    config = DataConfig(split="by_time", valid_from="2020-01-03", test_from="2020-01-05T01:00:00+01:00")
    sizes = dict(split_rows(frame, config).group_by("split").len().iter_rows())
    assert sizes == {"train": 4, "valid": 4, "test": 7}


def frame_of(rows: list[tuple[int, int, int, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_hand_made_user() -> None:
    likes = [1, 1, 0, 1, 1, 0, 1, 1, 0, 1]
    other = [(2, item, 50 + item, item % 2) for item in range(1, 31)]
    result = split_rows(
        frame_of([(1, 10 + n, 100 + n // 2, y) for n, y in enumerate(likes)] + other), DataConfig(history_length=3)
    )
    mine = result.filter(pl.col("user_id") == 1)
    assert mine["split"].to_list() == ["train"] * 8 + ["valid", "test"]
    pairs = [[], [10, 11], [10, 11, 13], [11, 13, 14], [14, 16, 17]]
    assert mine["history"].to_list() == [history for history in pairs for _ in range(2)]


def test_fractions_that_binary_cannot_hold_are_floored_as_written() -> None:
    frame = frame_of([(1, n, n, n % 2) for n in range(100)])
    result = split_rows(frame, DataConfig(test_fraction=0.29, valid_fraction=0.07))
    assert dict(result.group_by("split").len().iter_rows()) == {"train": 64, "valid": 7, "test": 29}


def test_large_random_data_history_is_exact() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    frame = pl.DataFrame(
        {name: rng.integers(0, high, n) for name, high in zip(SCHEMA, (50, 4000, 300, 2), strict=True)}
    )
    frame = frame.cast(SCHEMA).sort("user_id", "timestamp", maintain_order=True)  # type: ignore[arg-type]
    got = histories(frame, 10).to_list()
    rows = frame.to_dicts()
    by_user = {user: list(group) for user, group in groupby(rows, key=lambda r: r["user_id"])}
    for index in rng.integers(0, n, 500):
        assert got[index] == brute_force_history(by_user[rows[index]["user_id"]], rows[index], 10)


@pytest.mark.parametrize(
    ("rows", "config", "message"),
    [
        (
            [(1, 1, 1, 0), (1, 2, 2, 1)],
            {},
            r"the valid split is empty \(2 rows in all, data.split is per_user\); it needs users with at least 3 rows",
        ),
        (
            [(1, n, 5, n % 2) for n in range(9)],
            {"split": "by_time"},
            r"the train split is empty .* three different times, or --set data.split=per_user",
        ),
        (
            [(1, n, n, n % 2) for n in range(9)],
            {"split": "by_time", "valid_from": "2030-01-01", "test_from": "2031-01-01"},
            r"the valid split is empty",
        ),
        (
            [(1, n, n, 1) for n in range(9)],
            {},
            r"all 7 rows of the train split are likes, .* rating >= 4 \(data.like_threshold\)",
        ),
        ([(u, n, n, int(n < 5)) for u in (1, 2) for n in range(9)], {}, "all 2 rows of the valid split are dislikes"),
    ],
)
def test_unusable_splits(rows: list[tuple[int, int, int, int]], config: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_rows(frame_of(rows), DataConfig.model_validate({"interactions": "r.csv", **config}))
