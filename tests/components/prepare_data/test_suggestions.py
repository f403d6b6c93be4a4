"""Errors end the search: what was dropped before stands in them, and what they suggest works when pasted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from components.prepare_data.drops import drops_told
from components.prepare_data.step import prepare_data
from components.prepare_data.table import Table
from sella_rec.config import Config, DataConfig
from sella_rec.data.errors import DataError
from sella_rec.tracking.tracker import Tracker
from tests.components.prepare_data.pasting import hold_to_promise, paste, suggestions

Write = Callable[[str, str], DataConfig]
HEAD = "user_id,item_id,rating,timestamp\n"
DAY = 86_400


def rows(users: int, each: int, rating: Callable[[int], float], items: int = 30) -> str:
    """Users with as many rows, one a day from 2001 on."""
    lines = [
        f"{user},{(user + n) % items},{rating(user + n):g},{978_307_200 + (user * each + n) * DAY}"
        for user in range(users)
        for n in range(each)
    ]
    return HEAD + "".join(f"{line}\n" for line in lines)


def titles(items: int = 30, head: str = "item_id,title") -> str:
    return head + "\n" + "".join(f"{item},Title {item}\n" for item in range(items))


def alternating(n: int) -> float:
    return 5 if n % 2 else 1


RIGHT = rows(20, 10, alternating)
TWO = ",title,n"
MOMENT = HEAD + "".join(f"{n % 8},{n % 30},{alternating(n // 8)},978307200\n" for n in range(80))
# Input, settings, and whether what is suggested first is all that is wrong
CASES: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    "column by its likeness": (RIGHT.replace("item_id", "movieId", 1), titles(head="movieId,title"), {}, True),
    "column with spaces": (RIGHT.replace("user_id", "user id", 1), titles(), {}, True),
    "column with quotes": (RIGHT.replace("user_id", "user's id", 1), titles(), {}, True),
    "the only column left": (RIGHT.replace("timestamp", "when", 1), titles(), {}, True),
    "the rating's": (RIGHT.replace("rating", "overall", 1), titles(), {}, True),
    "the title's": (RIGHT, titles(head="item_id,name"), {}, True),
    "titles in another column": (RIGHT, titles(head="item_id,name").replace(",", ",,").replace(",,n", TWO), {}, True),
    "window before all": (RIGHT, titles(), {"window_until": "1999-01-01"}, True),
    "window after all": (RIGHT, titles(), {"window_from": "2030-01-01"}, True),
    "window upside down": (RIGHT, titles(), {"window_from": "2030-01-01", "window_until": "1999-01-01"}, True),
    "users with too few rows": (RIGHT, titles(), {"min_user_rows": 99}, True),
    "items with too few rows": (RIGHT, titles(), {"min_item_rows": 99}, False),
    "users and items with too few rows": (RIGHT, titles(), {"min_user_rows": 40, "min_item_rows": 40}, False),
    "users with two rows": (rows(60, 2, alternating), titles(), {}, False),
    "cuts after all": (
        rows(20, 10, alternating),
        titles(),
        {"split": "by_time", "valid_from": "2030-01-01", "test_from": "2031-01-01"},
        True,
    ),
    "half of nothing": (
        rows(20, 10, alternating),
        titles(),
        {"split": "by_time", "valid_from": "2030-01-01", "test_from": "half"},
        True,
    ),
    "one moment": (MOMENT, titles(), {"split": "by_time", "duplicates": "all"}, False),
    "ratings from 0 to 1": (rows(20, 10, lambda n: (n * 7 % 11) / 10), titles(), {}, False),
    "ratings from 1 to 10, threshold of 5 stars": (rows(20, 10, lambda n: 5 + n % 5), titles(), {}, True),
}


def run(config: Config, folder: Path) -> None:
    prepare_data(config, folder / "out", Tracker())


@pytest.mark.parametrize(("case", "enough"), [(case, given[3]) for case, given in CASES.items()])
def test_a_pasted_suggestion_works(tmp_path: Path, small: Write, case: str, enough: bool) -> None:
    rows_text, items_text, settings, _ = CASES[case]
    config = Config(data=small(rows_text, items_text).model_copy(update=settings))
    config = Config.model_validate({"data": {**config.data.model_dump(), **settings}})
    with pytest.raises(DataError) as told:
        run(config, tmp_path)
    assert hold_to_promise(told.value, config, lambda new: run(new, tmp_path), tmp_path) > 0, told.value
    if enough:
        run(paste(config, suggestions(str(told.value))[0], tmp_path), tmp_path)
        assert (tmp_path / "out" / "train.parquet").is_file()


def test_a_suggestion_that_fixes_nothing_would_be_found(tmp_path: Path) -> None:
    def use(_: Config) -> None:
        raise DataError("r.csv: none of its 7 rows; use --set data.min_user_rows=3")

    error = DataError("r.csv: none of its 9 rows; use --set data.min_user_rows=2")
    with pytest.raises(AssertionError, match="does not fix"):
        hold_to_promise(error, Config(), use, tmp_path)


def test_suggestions_are_found_as_one_would_copy_them() -> None:
    text = "no column 'a'; use --set 'data.columns.a=b c' (columns: 'x'), or --set a.b=1 --set a.c='d e'; --set a=NAME"
    assert suggestions(text) == [["data.columns.a=b c"], ["a.b=1", "a.c=d e"]]


def test_what_was_dropped_before_stands_in_the_error(tmp_path: Path, small: Write) -> None:
    known = rows(10, 2, alternating)
    unknown = "".join(f"{user},{1000 + n},5,{978_307_200 + n}\n" for user in range(20) for n in range(35))
    untitled = "".join(f"{user},500,1,{978_307_200 + user}\n" for user in range(50))
    data = small(known + unknown + untitled, titles() + "500,\n")
    for settings, gist in (
        ({"min_user_rows": 9}, "none of its 20 rows is of a user with 9 rows"),
        ({}, "the valid split is empty (20 rows in all"),
    ):
        with pytest.raises(DataError) as told:
            run(Config.model_validate({"data": {**data.model_dump(), **settings}}), tmp_path)
        assert gist in str(told.value)
        assert str(told.value).endswith(
            "(dropped before, of 770 rows read: 50 of items without a title (rows_item_without_title), "
            "700 of items that the items table lacks (rows_item_unknown))"
        )


def test_nothing_is_added_where_nothing_was_dropped() -> None:
    for counts in ({}, {"rows_read": 9, "rows_duplicate": 0, "items_without_title": 3}):
        with pytest.raises(DataError, match=r"^as it was$"), drops_told(counts):
            raise DataError("as it was")


def test_up_to_five_rows_are_shown_with_their_values() -> None:
    frame = pl.DataFrame({"rating": [f"v{n}" for n in range(2000)]})
    table = Table("r.csv", frame, {"rating": "stars"}, ["stars"], first_row=2)
    bad = pl.Series([n % 100 == 7 for n in range(2000)])
    with pytest.raises(DataError) as told:
        table.reject("rating", bad, "must be a number")
    assert str(told.value) == (
        "r.csv, row 9, column 'stars': must be a number (got 'v7'); also row 109 ('v107'), row 209 ('v207'), "
        "row 309 ('v307'), row 409 ('v407'), 15 more up to row 1909"
    )
    two = pl.Series([n in (3, 5) if n else None for n in range(2000)])
    with pytest.raises(DataError, match=r"row 5, .*\(got 'v3'\); also row 7 \('v5'\)$"):
        table.reject("rating", two, "must be a number")
    table.reject("rating", pl.Series([None, False] * 1000), "nothing is wrong")
