"""Quotation marks that a parser would take in silence are found, with their line."""

from __future__ import annotations

import csv
from io import StringIO

import pytest

from components.prepare_data.delimited import read_delimited
from components.prepare_data.dialect import TextSettings
from components.prepare_data.table import Table
from sella_rec.data.errors import DataError

COLUMNS = {"user_id": "user_id", "item_id": "item_id", "title": "title"}


def read(text: str) -> Table:
    return next(read_delimited("r.csv", text.encode(), COLUMNS, TextSettings()))


def table(values: list[str], separator: str = ",") -> str:
    lines = [f"{number}{separator}{value}{separator}x\n" for number, value in enumerate(values)]
    return separator.join(["user_id", "title", "item_id"]) + "\n" + "".join(lines)


@pytest.mark.parametrize("closing", ["", '"b"', 'b"'])
@pytest.mark.parametrize("separator", [",", ";"])
def test_a_stray_mark_is_found_whatever_closes_it(separator: str, closing: str) -> None:
    values = ["a"] * 500
    values[123] = '"a'
    values[400] = closing or "a"
    with pytest.raises(DataError, match=r"r\.csv: malformed CSV: line 125: a quotation mark is not closed"):
        read(table(values, separator))


def test_a_long_description_is_no_stray_mark() -> None:
    prose = "\n".join(f"Line {number}, which has a comma, or two, or three" for number in range(60))
    file = StringIO(newline="")
    csv.writer(file).writerows([("user_id", "title", "item_id"), (1, prose, 2), (3, 'say "yes"', 4)])
    assert read(file.getvalue()).frame["title"].to_list() == [prose, 'say "yes"']


def test_a_value_longer_than_pythons_parser_takes_by_itself() -> None:
    assert read(table(['"' + "long, " * 50_000 + '"'])).frame.height == 1


def test_marks_escaped_by_a_backslash_as_spark_writes_them() -> None:
    found = read(table([r'"say \"yes\", or no"', r"plain", r'"a \\ b"']))
    assert found.frame["title"].to_list() == ['say "yes", or no', "plain", r"a \ b"]
    assert found.notes == ("quotation marks are escaped by a backslash",)
    assert read(table([r'"C:\new ""one"""'])).frame["title"].to_list() == [r'C:\new "one"']


@pytest.mark.parametrize("separator", ["\t", "|"])
def test_marks_are_text_where_a_tab_table_does_not_quote(separator: str) -> None:
    titles = ['"Great" Expectations', '7" Single', "Heat", '"Odd']
    found = read(table(titles, separator))
    assert found.frame["title"].to_list() == titles
    assert any("quotation marks were read as text (line 2" in note for note in found.notes)


def test_a_stray_mark_in_a_quoted_tab_table_is_an_error() -> None:
    with pytest.raises(DataError, match="line 3: a quotation mark is not closed"):
        read('"user_id"\t"title"\t"item_id"\n"1"\t"a"\t"2"\n"3"\t"b\t"4"\n"5"\t"c"\t"6"\n')
