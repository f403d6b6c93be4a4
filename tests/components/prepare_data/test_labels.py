"""Likes and dislikes, as numbers and in words."""

from __future__ import annotations

import shlex
from decimal import Decimal

import polars as pl
import pytest

from components.prepare_data.changes import Changes
from components.prepare_data.labels import labels
from sella_rec.data.errors import DataError
from tests.components.prepare_data.tables import DROP, FAIL, NAMES, table


def label(values: list[object] | pl.Series, target: str = "label", changes: Changes | None = None) -> list[int]:
    found = labels(table(target, values), target, 4.0, DROP, changes or Changes())
    assert found.dtype == pl.Int8
    return found.to_list()


@pytest.mark.parametrize(
    "values",
    [
        *([0, 1], [0.0, 1.0], ["0", "1"], ["0.0", "1.0"], [" 0", "1\u00a0"], [False, True], ["False", "TRUE"]),
        *(["no", "Yes"], ["n", "y"], ["f", "t"], ["dislike", "like"], ["Disliked", "Liked"], ["down", "up"]),
        *(["👎", "👍"], ["👎🏽", "👍🏿"], ["Thumbs down", "thumbs-up"], ["thumbs_down", "ThumbsUp"], ["0", "yes"]),
        *([Decimal("0"), Decimal("1")], pl.Series(["no", "yes"], dtype=pl.Categorical), pl.Series([b"0", b"1"])),
        *(["'no'", "\u200byes\u00a0"], ["downvote", "upvote"], ["negative", "positive"]),
    ],
)
def test_labels_as_people_write_them(values: list[object]) -> None:
    assert label(values) == [0, 1]


def test_words_are_counted_and_numbers_are_not() -> None:
    changes = Changes()
    assert label(["yes", "no", "yes", "1", "N/A"], changes=changes) == [1, 0, 1, 1, None]
    found = {change["rule"]: (change["rows"], change["examples"]) for change in changes.to_dict()["changes"]}
    assert found == {"missing": (1, [["N/A", None]]), "words": (3, [["yes", "1"], ["no", "0"]])}


def test_ratings_at_or_above_the_threshold_are_likes() -> None:
    assert label([3.9, 4.0, 5.0, None], "rating") == [0, 1, 1, None]
    assert label(["3.9", "4", "NaN"], "rating") == [0, 1, None]
    assert label([Decimal("3.9"), Decimal("4.5")], "rating") == [0, 1]
    changes = Changes()
    assert label(["3,5", "4,5", " 4,25", "4.5", "-1"], "rating", changes) == [0, 1, 1, 1, 0]
    (change,) = changes.to_dict()["changes"]
    assert (change["rule"], change["rows"], change["examples"][0]) == ("decimal commas", 3, ["3,5", "3.5"])


@pytest.mark.parametrize(
    ("target", "values", "message"),
    [
        ("rating", [4.0, float("nan")], r"r\.csv, row 3, column 'stars': the rating is missing; .* \(got nan\)"),
        ("rating", [None, 4.0], "row 2, column 'stars': the rating is missing"),
        ("rating", ["4", "-"], "row 3, column 'stars': the rating is missing"),
        ("rating", ["4", "good"], r"row 3, column 'stars': a rating must be a number.* \(got 'good'\)"),
        ("rating", ["4", "5 stars"], "row 3, column 'stars': a rating must be a number, such as 4.5 or 4,5"),
        ("rating", ["4", "4/5"], "row 3, column 'stars': a rating must be a number"),
        ("rating", ["4", "1,000"], "row 3, column 'stars': a rating must be a number"),
        ("rating", [4.0, float("inf")], "row 3, column 'stars': a rating must be a number"),
        ("rating", pl.Series([20000]).cast(pl.Date), "column 'stars' contains Date; expected numbers"),
        (
            "label",
            pl.Series([20000]).cast(pl.Date),
            "column 'liked' contains Date; expected 0 and 1, or true and false",
        ),
        (
            "label",
            [0, 1, 2],
            r"row 4, column 'liked': a label must be 0 or 1.*; the column contains 2; if .* \(got 2\)",
        ),
        ("label", [0.5], "row 2, column 'liked': a label must be 0 or 1"),
        (
            "label",
            ["yes", "maybe", "so so", "maybe"],
            "row 3, .*; the column contains 'maybe', 'so so'; write 1 for a like",
        ),
        ("label", [1, None], "row 3, column 'liked': the label is missing"),
        ("label", [1.0, float("inf")], "row 3, .* the column contains inf; write 1 for a like"),
    ],
)
def test_bad_ratings_and_labels(target: str, values: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        labels(table(target, values), target, 4.0, FAIL, Changes())


@pytest.mark.parametrize(
    ("target", "values", "fix"),
    [
        ("label", [1, -1], ["rating=liked", "label=unused", "like_threshold=1"]),
        ("label", ["1", "5", "2.5"], ["rating=liked", "label=unused"]),
        ("label", [0, 1, 2, 3], ["rating=liked", "label=unused", "like_threshold=3"]),
        ("rating", [True, False], ["label=stars", "rating=unused"]),
        ("rating", ["True", "False"], ["label=stars", "rating=unused"]),
        ("rating", ["like", "dislike", "5"], ["label=stars", "rating=unused"]),
    ],
)
def test_the_advice_for_another_scale(target: str, values: list[object], fix: list[str]) -> None:
    with pytest.raises(DataError) as refused:
        labels(table(target, values), target, 4.0, FAIL, Changes())
    options = [word for word in shlex.split(str(refused.value).partition("--set")[2]) if word.startswith("data.")]
    assert [option.removeprefix("data.").removeprefix("columns.") for option in options] == fix


def test_names_with_spaces_are_quoted_in_the_advice() -> None:
    made = table("label", [3])
    made = type(made)(made.file, made.frame, {**NAMES, "label": "my label"}, ["my label"], 2)
    with pytest.raises(DataError, match=r"--set 'data.columns.rating=my label' --set"):
        labels(made, "label", 4.0, FAIL, Changes())
