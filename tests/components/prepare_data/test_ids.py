"""Identifiers: however one is written, it is the same."""

from __future__ import annotations

import unicodedata
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare_data.changes import Changes
from components.prepare_data.ids import ids
from sella_rec.data.errors import DataError
from tests.components.prepare_data.tables import DROP, FAIL, table


def canonical(values: list[object] | pl.Series, changes: Changes | None = None) -> list[object]:
    return ids(table("user_id", values), "user_id", DROP, changes or Changes()).to_list()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pl.Series([3, 1], dtype=pl.UInt8), [3, 1]),
        (pl.Series([3.0, -0.0, None]), [3, 0, None]),
        (pl.Series([2.0**53 - 1]), [2**53 - 1]),
        (pl.Series(["3", "-1"]), [3, -1]),
        (pl.Series(["3", "+1"]), ["3", "+1"]),
        (pl.Series(["true", "truer", "false"]), ["true", "truer", "false"]),
        (pl.Series(["True"]), ["True"]),
        (pl.Series(["x", "007", "7"]), ["x", "007", "7"]),
        (pl.Series(["1e3", "12E4", "1.5", "v1.0", "007.0"]), ["1e3", "12E4", "1.5", "v1.0", "007.0"]),
        (pl.Series(["Anna", "anna", "a b"]), ["Anna", "anna", "a b"]),
        (pl.Series(["x", "y"], dtype=pl.Categorical), ["x", "y"]),
        (pl.Series(["1", "2"], dtype=pl.Enum(["1", "2"])), [1, 2]),
        (pl.Series([2**64 - 1, 5], dtype=pl.UInt64), ["18446744073709551615", "5"]),
        (pl.Series(["18446744073709551615", "5"]), ["18446744073709551615", "5"]),
        (pl.Series([Decimal("1.00"), Decimal("20.00")]), [1, 20]),
        (pl.Series([Decimal(10**30), Decimal(1)], dtype=pl.Decimal(38, 0)), [str(10**30), "1"]),
        (pl.Series([b"1", "é".encode()]), ["1", "é"]),
        (pl.Series([None, None]), [None, None]),
        (pl.Series(["o'brien", '"a" or "b"', "[deleted]", "{x"]), ["o'brien", '"a" or "b"', "[deleted]", "{x"]),
        (pl.Series(["می\u200cخواهم"]), ["می\u200cخواهم"]),
    ],
)
def test_ids_are_int64_or_strings(values: pl.Series, expected: list[object]) -> None:
    found = ids(table("user_id", values), "user_id", DROP, Changes())
    assert found.to_list() == expected
    assert found.dtype in (pl.Int64, pl.String)


WRAPPINGS = ["", " ", "\t", "\u00a0", "\u3000", "\x00", "\u200b", "\ufeff", "\r\n", "\u200d", "\x1f"]
QUOTES = [("", ""), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("«", "»"), ('="', '"'), ("`", "`")]


@st.composite
def written(draw: st.DrawFn, number: int) -> str:
    """One of the ways in which files write the integer `number` as text."""
    text = str(number) + draw(st.sampled_from(["", ".0", ".", ".000"]))
    for left, right in draw(st.lists(st.sampled_from(QUOTES), max_size=3, unique_by=lambda pair: pair[1])):
        before, after = draw(st.sampled_from(WRAPPINGS)), draw(st.sampled_from(WRAPPINGS))
        text = f"{before}{left}{text}{right}{after}"
    return text


@settings(max_examples=100, deadline=None)
@given(st.integers(-(2**53) + 1, 2**53 - 1).flatmap(lambda n: st.tuples(st.just(n), st.lists(written(n), min_size=1))))
def test_an_integer_is_the_same_however_it_is_written(drawn: tuple[int, list[str]]) -> None:
    number, texts = drawn
    assert set(canonical(pl.Series(texts))) == {number}
    assert set(canonical(pl.Series([*texts, "x"]))) == {str(number), "x"}
    assert canonical(pl.Series([float(number)])) == [number]
    assert canonical(pl.Series([number])) == [number]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1))
def test_a_canonical_id_stays_as_it_is_and_its_letters_too(texts: list[str]) -> None:
    try:
        once = canonical(pl.Series(texts, dtype=pl.String))
    except DataError:
        return
    as_text = [None if value is None else str(value) for value in once]
    assert [None if v is None else str(v) for v in canonical(pl.Series(as_text, dtype=pl.String))] == as_text
    for before, after in zip(texts, as_text, strict=True):
        # whatever goes, letters and digits stay, but for the zeros behind a point
        letters = [c for c in unicodedata.normalize("NFC", before) if c.isalnum() and ord(c) not in (0x115F, 0x1160)]
        if after is not None and "." not in before:
            kept = [c for c in after if c.isalnum()]
            assert [c for c in letters if c not in "\u3164\uffa0"] == [c for c in kept if c not in "\u3164\uffa0"]


@pytest.mark.parametrize("pair", [("é", "e\u0301"), ("Å", "\u212b"), ("가", "\u1100\u1161")])
def test_composed_and_decomposed_letters_are_the_same(pair: tuple[str, str]) -> None:
    assert len(set(canonical(list(pair)))) == 1


def test_what_each_rule_changed_is_counted_with_examples() -> None:
    changes = Changes()
    canonical(["1", " 1", " 1", "1\x00", "'1'", "1.0", "e\u0301", "nan"], changes)
    found = {change["rule"]: (change["rows"], change["examples"]) for change in changes.to_dict()["changes"]}
    assert found == {
        "invisible characters": (1, [["1\x00", "1"]]),
        "Unicode form (NFC)": (1, [["e\u0301", "é"]]),
        "white space": (2, [[" 1", "1"]]),
        "quotes": (1, [["'1'", "1"]]),
        "integers written as floats": (1, [["1.0", "1"]]),
        "missing": (1, [["nan", None]]),
    }
    floats = Changes()
    canonical([7.0, 7.0, 8.0], floats)
    (change,) = floats.to_dict()["changes"]
    assert (change["rule"], change["rows"]) == ("integers written as floats", 3)
    assert change["examples"] == [["7.0", "7"], ["8.0", "8"]]


LOST = "a float has lost the last digits of such an identifier; write this column as text or as integers"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, None], r"r\.csv, row 3, column 'userId': the user_id is missing; .*--set data.missing_rows=drop"),
        (["a", "b", " \u200b"], r"row 4, column 'userId': the user_id is missing"),
        (["a", "'  '"], r"row 3, column 'userId': the user_id is missing; .* \(got \"'  '\"\)"),
        (
            ["a", "None"],
            r"the user_id is missing; .*; if 'None' is an identifier, --set 'data.missing=\[\]' \(got 'None'\)",
        ),
        ([1.0, float("nan")], r"row 3, column 'userId': the user_id is missing"),
        ([None, None], "row 2, column 'userId': the user_id is missing"),
        ([1.0, 2.5], r"row 3, column 'userId': an identifier must be a whole number or text \(got 2.5\)"),
        ([1.0, float("inf")], r"row 3, column 'userId': an identifier must be a whole number or text \(got inf\)"),
        ([1.0, 2.0**53], rf"row 3, column 'userId': {LOST} \(got 9007199254740992.0\)"),
        (pl.Series([1, 2**24], dtype=pl.Float32), rf"row 3, column 'userId': {LOST}"),
        (["1", "9007199254740992.0"], rf"row 3, column 'userId': {LOST} \(got '9007199254740992.0'\)"),
        (["1", "1.23457E+11"], rf"row 3, column 'userId': {LOST}"),
        (["1", " 1e+16"], rf"row 3, column 'userId': {LOST}"),
        ([True, False], "column 'userId' contains Boolean; expected integers or text"),
        (['["a"]'], r"row 2, column 'userId': an identifier must be one value, not a list or an object"),
        (["a", '{"id": 1}'], "row 3, column 'userId': an identifier must be one value"),
        (["a", "{'id': None}"], "row 3, column 'userId': an identifier must be one value"),
        (["True", "False", "True"], "row 2, column 'userId': true and false are no identifiers"),
        ([b"a", b"\xff"], "row 3, column 'userId': holds bytes that are not UTF-8 text"),
    ],
)
def test_bad_ids(values: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ids(table("user_id", values), "user_id", FAIL, Changes())


@pytest.mark.parametrize("values", [pl.Series([1, 2]), pl.Series(["a-1", "B_2"])])
def test_clean_ids_are_the_series_that_came(values: pl.Series) -> None:
    changes = Changes()
    found = ids(table("user_id", values), "user_id", FAIL, changes)
    assert found.equals(values)
    assert changes.to_dict()["changes"] == []
