"""What counts as missing, in text and in numbers."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare_data.changes import Changes
from components.prepare_data.missing import Missing
from sella_rec.config import DataConfig
from sella_rec.data.errors import DataError
from tests.components.prepare_data.tables import DROP, FAIL, table

WORDS = ["nan", "NaN", "None", "NULL", "null", "NA", "N/A", "n/a", "\\N", "-", "<NA>", "#N/A", "NaT", ""]
BLANKS = st.text(st.sampled_from(" \t\n\u00a0\u3000\u200b\u200d\ufeff\u2060\x00\u00ad\u3164"), max_size=3)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(WORDS), BLANKS, BLANKS, st.sampled_from([str, str.lower, str.upper, str.title]))
def test_words_are_missing_in_any_case_and_white_space(word: str, left: str, right: str, case: object) -> None:
    text = f"{left}{case(word)}{right}"  # type: ignore[operator]
    assert FAIL.mask(pl.Series([text])).to_list() == [True]
    assert Missing((), drop=False).mask(pl.Series([text])).to_list() == [not word]


@pytest.mark.parametrize("value", ["nano", "Nancy", "an/a", "--", "N", "0", "no", "NA NA", "\\n\\n", ".", "null."])
def test_words_inside_others_are_values(value: str) -> None:
    assert FAIL.mask(pl.Series([value])).to_list() == [False]


def test_numbers_are_missing_as_nan_and_null_and_by_a_word_that_is_a_number() -> None:
    mine = Missing(("-1", "nan", "inf"), drop=True)
    for values in ([-1.0, 2.0, math.nan, None], ["-1", "2", "NaN", None]):
        assert mine.mask(pl.Series(values)).to_list() == [True, False, True, True]
    assert mine.mask(pl.Series([-1, 2])).to_list() == [True, False]
    assert FAIL.mask(pl.Series([-1, 0])).to_list() == [False, False]


def test_what_a_configuration_says_reaches_the_words() -> None:
    config = DataConfig.model_validate({"missing": [None, -1, math.nan, "?"], "missing_rows": "drop"})
    assert Missing.of(config) == Missing(("null", "-1", "nan", "?"), drop=True)


def test_missing_values_become_null_and_are_counted() -> None:
    changes = Changes()
    values = pl.Series("user_id", ["a", "nan", None, " "])
    assert DROP.nulls(table("user_id", values), "user_id", values, changes).to_list() == ["a", None, None, None]
    (change,) = changes.to_dict()["changes"]
    assert (change["rule"], change["rows"], change["examples"]) == ("missing", 2, [["nan", None], [" ", None]])


def test_a_missing_title_is_no_error_but_a_missing_time_is() -> None:
    values = pl.Series(["a", "-"])
    assert FAIL.nulls(table("title", values), "title", values, Changes()).to_list() == ["a", None]
    with pytest.raises(DataError, match=r"row 3, column 'time': the timestamp is missing; .*=drop \(got '-'\)"):
        FAIL.nulls(table("timestamp", values), "timestamp", values, Changes())
