"""Titles: plain text on one line, at most 500 characters of it."""

from __future__ import annotations

import html

import polars as pl

from components.prepare_data.changes import Changes
from components.prepare_data.missing import Missing
from components.prepare_data.plain import INVISIBLE, literal, stripped, wrong_type
from components.prepare_data.table import Table

CHARACTERS = 500
_TAGS = (
    "a|abbr|b|big|blockquote|br|center|cite|code|dd|div|dl|dt|em|font|h[1-6]|hr|i|img|li|ol|p|pre|q|s|script|small|"
    "span|strike|strong|style|sub|sup|table|tbody|td|th|tr|tt|u|ul"
)
_LINES = r"[\n\r\u{B}\u{C}\u{85}\u{2028}\u{2029}]"


def title_text(table: Table) -> pl.Series:
    """The titles as text, before any rule: whole numbers without a point, the values of a list joined by `, `.

    Raises:
        DataError: objects, times, or another type that is no text.
    """
    values = table.frame["title"]
    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    if isinstance(values.dtype, pl.List) and not values.dtype.inner.is_nested():
        return values.cast(pl.List(pl.String)).list.drop_nulls().list.join(", ")
    if values.dtype.is_float():
        whole = values.cast(pl.Int64, strict=False)
        return whole.cast(pl.String).zip_with((whole == values).fill_null(False), values.cast(pl.String))
    if values.dtype != pl.String and not values.dtype.is_numeric():
        wrong_type(table, "title", "text")
    return values.cast(pl.String)


def titles(table: Table, reject: str | None, missing: Missing, changes: Changes) -> pl.Series:
    """Plain text, null where nothing is left or the text is missing.

    HTML entities are replaced; tags, control characters and line breaks become a space; what is longer than 500
    characters is cut. A title that contains the text `reject` is null.

    Raises:
        DataError: as `title_text`, and an object in JSON.
    """
    values = title_text(table)
    if reject is not None:
        values = pl.select(pl.when(~values.str.contains(reject, literal=True)).then(values)).to_series()
    values = _joined(table, values, changes)
    values = _plain_text(values, changes)
    cut = stripped(values.str.head(CHARACTERS))
    changes.add("title", f"cut to {CHARACTERS} characters", values, cut)
    return missing.nulls(table, "title", cut, changes).rename("title")


def _plain_text(values: pl.Series, changes: Changes) -> pl.Series:
    entities = values.str.contains("&", literal=True).fill_null(False)
    if entities.any():
        plain_text = [html.unescape(text) if has else text for text, has in zip(values, entities, strict=True)]
        values = pl.Series(plain_text, dtype=pl.String)
    values = values.str.replace_all(rf"(?i)</?(?:{_TAGS})(?:\s[^<>]*)?/?>", " ")
    values = _on_one_line(values, changes)
    # a tab or a null byte parts words, a zero-width space or a mark of direction does not
    values = values.str.replace_all(r"[\s\p{Cc}]+", " ").str.replace_all(f"[{INVISIBLE}]", "")
    return stripped(values.str.normalize("NFC"))


def _on_one_line(values: pl.Series, changes: Changes) -> pl.Series:
    if not values.str.contains(_LINES).any():
        return values
    lines = stripped(values)
    values = lines.str.replace_all(rf"\s*{_LINES}\s*", " ")
    changes.add("title", "several lines", lines, values)
    return values


def _joined(table: Table, values: pl.Series, changes: Changes) -> pl.Series:
    """`values` with lists that a file writes as text, `["a", "b"]`, joined as lists are."""
    nested = values.str.contains(r"^\s*[\[{]\s*[\"'\]}]").fill_null(False)
    if not nested.any():
        return values
    raw = values.filter(nested).unique(maintain_order=True)
    read = [literal(text) for text in raw]
    objects = raw.filter(pl.Series([isinstance(value, dict) for value in read]))
    table.reject("title", values.is_in(objects.implode()).fill_null(False), "a title must be text, not an object")
    joined = [
        ", ".join(map(str, value)) if isinstance(value, list) else text for text, value in zip(raw, read, strict=True)
    ]
    after = values.replace(raw, pl.Series(joined, dtype=pl.String))
    changes.add("title", "lists joined", values, after)
    return after
