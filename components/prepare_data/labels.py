"""Labels: what people write for a like and a dislike, and ratings that a threshold makes into them."""

from __future__ import annotations

import math
import shlex

import polars as pl

from components.prepare_data.changes import Changes
from components.prepare_data.missing import Missing
from components.prepare_data.plain import BLANK, stripped, wrong_type
from components.prepare_data.table import Table

_LIKE = "true t yes y like liked up upvote positive"
_DISLIKE = "false f no n dislike disliked down downvote negative"
# compared in lower case, and without what is not a letter or a thumb: "Thumbs up", "thumbs_up"
_WORDS = {
    **dict.fromkeys(_LIKE.split(), 1.0),
    **dict.fromkeys(_DISLIKE.split(), 0.0),
    **dict.fromkeys(("thumbsup", "thumbup", "\N{THUMBS UP SIGN}"), 1.0),
    **dict.fromkeys(("thumbsdown", "thumbdown", "\N{THUMBS DOWN SIGN}"), 0.0),
}
_NOT_WORDS = rf"""[{BLANK}"'_\-\u{{1F3FB}}-\u{{1F3FF}}]"""
_SHOWN = 5


def labels(table: Table, target: str, like_threshold: float, missing: Missing, changes: Changes) -> pl.Series:
    """int8, 1 for a like, null where missing: the `label`, or a `rating` at or above `like_threshold`.

    Raises:
        DataError: a missing value, a rating that is no finite number, or a label that is neither 0, 1 nor a word for
            one of them.
    """
    values = missing.nulls(table, target, table.frame[target], changes)
    if target == "rating":
        return (_ratings(table, values, changes) >= like_threshold).cast(pl.Int8)
    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.String)):
        wrong_type(table, target, "0 and 1, or true and false")
    numbers = _numbers(values)
    if values.dtype == pl.String:
        numbers = _words(target, values, numbers, changes)
    bad = values.is_not_null() & ~numbers.is_in([0.0, 1.0]).fill_null(False)
    if bad.any():
        table.reject(target, bad, _label_rule(table, values.filter(bad), _numbers(values), like_threshold))
    return numbers.cast(pl.Int8)


def _label_rule(table: Table, bad: pl.Series, numbers: pl.Series, like_threshold: float) -> str:
    seen = ", ".join(repr(value) for value in bad.unique(maintain_order=True).head(_SHOWN))
    rule = f"a label must be 0 or 1, or a word such as true, no, like, thumbs down; the column contains {seen}"
    highest = numbers.max()
    if _numbers(bad).null_count() or not isinstance(highest, float) or not math.isfinite(highest):
        return f"{rule}; write 1 for a like and 0 for a dislike"
    # no column is called `unused`, so the file has a rating and no label
    fix = f"{_set('rating', table.columns['label'])} --set data.columns.label=unused"
    if highest < like_threshold:
        fix += f" --set data.like_threshold={highest:g}"
    return f"{rule}; if these are ratings, {fix}"


def _set(field: str, column: str) -> str:
    return f"--set {shlex.quote(f'data.columns.{field}={column}')}"


def _ratings(table: Table, values: pl.Series, changes: Changes) -> pl.Series:
    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.String)):
        wrong_type(table, "rating", "numbers")
    numbers = _numbers(values)
    if values.dtype == pl.String and numbers.null_count() > values.null_count():
        commas = values.str.contains(r"^\s*-?[0-9]+,[0-9]{1,2}\s*$").fill_null(False)
        points = values.str.replace(",", ".", literal=True).zip_with(commas, values)
        changes.add("rating", "decimal commas", values, points)
        numbers = _numbers(points)
    bad = values.is_not_null() & (values.dtype == pl.Boolean or ~numbers.is_finite().fill_null(False))
    if bad.any():
        table.reject("rating", bad, f"a rating must be a number, such as 4.5 or 4,5{_as_label(table, values)}")
    return numbers


def _as_label(table: Table, values: pl.Series) -> str:
    """The advice for a column of ratings that contains labels, if it does."""
    if not _meaning(values.drop_nulls().unique().cast(pl.String)).count():
        return ""
    return f"; if these are labels, {_set('label', table.columns['rating'])} --set data.columns.rating=unused"


def _words(target: str, values: pl.Series, numbers: pl.Series, changes: Changes) -> pl.Series:
    """`numbers`, and where they are null what the word in `values` stands for."""
    rest = values.is_not_null() & numbers.is_null()
    if not rest.any():
        return numbers
    counts = values.filter(rest).rename("raw").to_frame().group_by("raw", maintain_order=True).len()
    meant = _meaning(counts["raw"])
    known = meant.is_not_null()
    raw, meaning = counts["raw"].filter(known), meant.filter(known)
    changes.add(target, "words", raw, meaning.cast(pl.Int8), counts["len"].filter(known))
    words = values.replace_strict(raw, meaning, default=None, return_dtype=pl.Float64)
    return numbers.zip_with(~rest, words)


def _meaning(words: pl.Series) -> pl.Series:
    """1.0 or 0.0 for each word, null for others."""
    letters = words.str.replace_all(_NOT_WORDS, "").str.to_lowercase()
    return letters.replace_strict(_WORDS, default=None, return_dtype=pl.Float64)


def _numbers(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        numbers = values.cast(pl.Float64, strict=False)
        if numbers.null_count() == values.null_count():
            return numbers
        values = stripped(values)
    return values.cast(pl.Float64, strict=False)
