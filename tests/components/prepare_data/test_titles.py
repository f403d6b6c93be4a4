"""Titles: plain text on one line, or none."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare_data.changes import Changes
from components.prepare_data.missing import Missing
from components.prepare_data.titles import CHARACTERS, title_text, titles
from sella_rec.data.errors import DataError
from tests.components.prepare_data.tables import FAIL, table


def plain_titles(values: list[object] | pl.Series, changes: Changes | None = None) -> list[str | None]:
    return titles(table("title", values), None, FAIL, changes or Changes()).to_list()


@pytest.mark.parametrize(
    ("title", "clean"),
    [
        ("Matrix, The", "Matrix, The"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Caf&eacute; &#39;Noir&#39;", "Café 'Noir'"),
        ("  two\n lines\tand\x00 more\u00a0", "two lines and more"),
        ("<b>Bold</b> <span class='x'>move</span><br/>", "Bold move"),
        ("&lt;i&gt;Emma&lt;/i&gt;", "Emma"),
        ("I <3 you > me", "I <3 you > me"),
        ("<Untitled>", "<Untitled>"),
        ("Cafe\u0301", "Café"),
        ("\ufeffZero\u200b width\u200d", "Zero width"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ('["Dune", "Part Two"]', "Dune, Part Two"),
        ("['Dune']", "Dune"),
        ("[REC]", "[REC]"),
        ('["unclosed', '["unclosed'),
        ("<br> &nbsp;", None),
        ("", None),
        ("\u200b", None),
        ("N/A", None),
        ("None", None),
        (" &nbsp;null", None),
        (None, None),
        ("Nancy", "Nancy"),
        (1984, "1984"),
        (b"bytes", "bytes"),
        (["Dune", None, "Part Two"], "Dune, Part Two"),
        ([1, 2], "1, 2"),
        ([], None),
        ("[]", None),
    ],
)
def test_titles_become_plain_text(title: object, clean: str | None) -> None:
    assert plain_titles(pl.Series([title])) == [clean]


@pytest.mark.parametrize(
    ("values", "clean"),
    [
        (pl.Series([1984.0, 2.5, None]), ["1984", "2.5", None]),
        (pl.Series(["Emma", "Emma"], dtype=pl.Categorical), ["Emma", "Emma"]),
        (pl.Series([["a", "b"]], dtype=pl.Array(pl.String, 2)), ["a, b"]),
        (pl.Series([None, None]), [None, None]),
    ],
)
def test_other_types(values: pl.Series, clean: list[str | None]) -> None:
    assert plain_titles(values) == clean


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([{"en": "Emma"}], r"row 2, column 'name': contains Struct.*; expected one value per row"),
        ([[["a"]]], r"row 2, column 'name': contains List.*; expected one value per row"),
        ([True], "column 'name' contains Boolean; expected text"),
        (["Emma", '{"en": "Emma"}'], r"row 3, column 'name': a title must be text, not an object"),
        ([b"\xff"], "row 2, column 'name': holds bytes that are not UTF-8 text"),
    ],
)
def test_bad_titles(values: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        plain_titles(pl.Series(values))


def test_words_are_titles_where_the_list_of_words_is_empty() -> None:
    found = titles(table("title", ["None", "", "-"]), None, Missing((), drop=False), Changes())
    assert found.to_list() == ["None", None, "-"]


def test_long_titles_and_titles_over_several_lines_are_counted() -> None:
    changes = Changes()
    long = "word " * 101
    found = plain_titles([long, "a" * CHARACTERS, "one\r\ntwo", "\none", '["a", "b"]', "-"], changes)
    assert found == [("word " * 100).strip(), "a" * CHARACTERS, "one two", "one", "a, b", None]
    told = {change["rule"]: (change["rows"], change["examples"]) for change in changes.to_dict()["changes"]}
    assert told == {
        "lists joined": (1, [['["a", "b"]', "a, b"]]),
        "several lines": (1, [["one\r\ntwo", "one two"]]),
        f"cut to {CHARACTERS} characters": (1, [[long.strip(), found[0]]]),
        "missing": (1, [["-", None]]),
    }


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=600))
def test_a_title_is_one_short_line_without_blanks_around_it(text: str) -> None:
    (title,) = plain_titles(pl.Series([text], dtype=pl.String))
    if title is not None:
        assert title == title.strip() != ""
        assert len(title) <= CHARACTERS
        assert title.splitlines() == [title]
        assert "\x00" not in title


def test_rejected_text_makes_a_title_null() -> None:
    assert titles(table("title", ["a getTime b", "c"]), "getTime", FAIL, Changes()).to_list() == [None, "c"]


def test_the_text_before_any_rule() -> None:
    assert title_text(table("title", ["a &amp; b"])).to_list() == ["a &amp; b"]
