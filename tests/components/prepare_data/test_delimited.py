"""Text tables of every dialect become the table that was written, or an error that names the row."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare_data.delimited import read_delimited
from components.prepare_data.dialect import TextSettings
from components.prepare_data.table import Table
from sella_rec.data.errors import DataError

COLUMNS = {"user_id": "user_id", "item_id": "item_id", "timestamp": "timestamp", "rating": "rating"}
ITEMS = {"item_id": "item_id", "title": "title"}
SEPARATORS = [",", "\t", ";", "|", "::"]
RATINGS = [
    ["user_id", "item_id", "rating", "timestamp"],
    ["7", "318", "5", "964982703"],
    ["7", "1", "3,5", "964982931"],
]


def read(text: str | bytes, columns: dict[str, str] = ITEMS, name: str = "r.csv", **settings: object) -> list[Table]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_delimited(name, data, columns, TextSettings(**settings)))  # type: ignore[arg-type]


def rows(*given: object, **named: object) -> list[tuple[object, ...]]:
    return pl.concat([table.frame.cast(pl.String) for table in read(*given, **named)]).rows()  # type: ignore[arg-type]


VALUES = st.text(st.sampled_from("ab7 ,;|:\t\"'\n\\é電\u2028"), max_size=8)
# Python's writer quotes a newline only if it is its own
WRITTEN = [("\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_MINIMAL), ("\r", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL)]
LINES = st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=8)


@settings(max_examples=100, deadline=None)
@given(LINES, st.sampled_from(SEPARATORS[:4]), st.sampled_from(WRITTEN))
def test_what_pythons_csv_writes_is_read(
    lines: list[tuple[str, str, str]], separator: str, written: tuple[str, Literal[0, 1]]
) -> None:
    newline, quoting = written
    file = StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, lineterminator=newline, quoting=quoting)
    writer.writerows([("item_id", "title", "genre"), *lines])
    while lines and not any(lines[-1]):
        lines = lines[:-1]
    assert rows(file.getvalue(), ITEMS | {"label": "genre"}) == lines


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", SEPARATORS)
def test_separators_newlines_headers_and_none(separator: str, newline: str) -> None:
    ratings = [[value.replace(",", "." if separator == "," else ",") for value in row] for row in RATINGS]
    lines = [separator.join(row) for row in ratings]
    expected = [(row[0], row[1], row[3], row[2]) for row in ratings[1:]]
    assert rows(newline.join(lines), COLUMNS) == expected
    assert rows(newline.join([*lines, "", ""]), COLUMNS) == expected
    header = tuple(RATINGS[0])
    assert rows(newline.join(lines[1:]), COLUMNS, header=header) == expected
    assert rows(newline.join(lines), COLUMNS, header=header) == expected
    table = read(newline.join(lines[1:]), COLUMNS, header=header)[0]
    assert table.first_row == 1
    assert "has no header; its columns are user_id, item_id, rating, timestamp" in table.notes


def test_newlines_of_several_kinds_and_blank_lines() -> None:
    assert rows("\n\r\nitem_id,title\r\n1,a\n\n2,b\r\n   \n3,c\n\r\n") == [("1", "a"), ("2", "b"), ("3", "c")]


def test_line_breaks_inside_values() -> None:
    assert rows('item_id,title\r\n1,"a\r\nb\rc\n"\r\n2,d\r\n') == [("1", "a\r\nb\rc\n"), ("2", "d")]
    assert rows("item_id::title\r\n1::a\u2028b\r\n") == [("1", "a\u2028b")]


def test_nul_characters_are_left_to_the_rules_of_values() -> None:
    assert rows("item_id,title\n1\0,a\0b\n") == [("1\0", "a\0b")]


@pytest.mark.parametrize(
    "header",
    [
        '"item_id","title"',
        " item_id , title ",
        "\ufeffitem_id,title",
        "'item_id','title'",
        '\ufeff"item_id" ,title\t',
        "item_id:token,title:token_seq",
    ],
)
def test_header_with_quotation_marks_white_space_and_types(header: str) -> None:
    assert rows(f'{header}\n7,"a, b"\n') == [("7", "a, b")]


def test_recbole() -> None:
    inter = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t318\t5\t9.6e8\n8\tB00X\t3.5\t964982931.0\n"
    table = read(inter, COLUMNS, "ml.inter")[0]
    assert table.frame.cast(pl.String).rows() == [("7", "318", "9.6e8", "5"), ("8", "B00X", "964982931.0", "3.5")]
    item = 'item_id:token\ttitle:token_seq\tgenre:token_seq\n1\t"Great" Expectations\tDrama Romance\n2\tHeat\tCrime\n'
    assert rows(item, name="ml.item") == [("1", '"Great" Expectations'), ("2", "Heat")]
    assert rows(item, ITEMS | {"title": "title:token_seq"}) == [("1", '"Great" Expectations'), ("2", "Heat")]


GROUPLENS = [
    ("ratings.dat", "1::1193::5::978300760\n", ["UserID", "MovieID", "Rating", "Timestamp"], "1|1193|5|978300760"),
    ("ratings.dat.gz", "1::1193::5::978300760\n", ["UserID", "Timestamp"], "1|978300760"),
    ("movies.dat", "1::Les Misérables: 2::Drama|Musical\n", ["MovieID", "Title"], "1|Les Misérables: 2"),
    ("u.data", "196\t242\t3\t881250949\n", ["user id", "item id", "rating", "timestamp"], "196|242|3|881250949"),
    ("u.item", "1|Misérables, Les|01-Jan-1995||http://x|0|1\n", ["movie id", "movie title"], "1|Misérables, Les"),
]


@pytest.mark.parametrize(("name", "text", "wanted", "expected"), GROUPLENS)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_grouplens_names_of_files_without_a_header(
    name: str, text: str, wanted: list[str], expected: str, encoding: str
) -> None:
    columns = dict(zip(["user_id", "item_id", "rating", "timestamp"], wanted, strict=False))
    assert rows(text.encode(encoding), columns, f"folder/{name}") == [tuple(expected.split("|"))]


def test_decimal_commas_do_not_hide_the_semicolons() -> None:
    text = "1;318;3,5;964982703\n1;2;4,0;964982704\n"
    assert rows(text, COLUMNS, header=("user_id", "item_id", "rating", "timestamp"))[0] == (
        "1",
        "318",
        "964982703",
        "3,5",
    )


def test_excels_first_line_names_the_separator() -> None:
    assert rows("sep=;\nitem_id;title\n1;a, b\n") == [("1", "a, b")]


@pytest.mark.parametrize("separator", ["~", "||", "¦", " ", "\x01", ", "])
def test_a_given_separator_decides(separator: str) -> None:
    assert rows(f"item_id{separator}title\n1{separator}a,b\n", separator=separator) == [("1", "a,b")]


def test_a_given_separator_that_the_file_does_not_have_is_said() -> None:
    table = read("item_id,title\n1,a\n", separator=";")[0]
    assert table.frame.rows() == [(1, "a")]
    assert table.notes == ("contains no ';', so that data.separator was not used",)


def test_values_and_names_behind_the_last_separator() -> None:
    assert (
        rows("item_id,title,\n1,a,\n") == rows("item_id,title\n1,a,\n") == rows("item_id,title,\n1,a\n") == [("1", "a")]
    )


def test_index_without_a_name_as_pandas_writes_it() -> None:
    assert rows(",item_id,title\n0,1,a\n") == [("1", "a")]


def test_a_header_that_is_repeated_where_files_were_put_together() -> None:
    one, two = read("item_id,title\n1,a\n2,b\n\ufeffitem_id,title\nx,c\n")
    assert (one.frame.rows(), two.frame.rows()) == ([(1, "a"), (2, "b")], [("x", "c")])
    assert (one.first_row, two.first_row) == (2, 5)
    assert two.notes == ("the header is repeated in row 4, and was left out",)
    assert rows("item_id,title\nitem_id,title\n") == []


def test_rows_without_values_at_the_end() -> None:
    (table,) = read("item_id,title\n1,a\n,\n2,b\n,\n,\n")
    assert table.frame.rows() == [("1", "a"), ("", ""), ("2", "b")]
    assert table.notes == ("2 rows at the end hold none of the wanted values, and were left out",)
    assert rows("item_id,title\n,\n") == rows("item_id,title\n") == []


def test_a_title_like_the_header_is_no_header() -> None:
    assert rows("item_id,title\n1,title\nitem_id,b\n") == [("1", "title"), ("item_id", "b")]


def test_a_row_longer_than_a_megabyte() -> None:
    text = "long " * 500_000
    assert rows(f'item_id,text,title\n1,"{text}",a\n2,,b\n') == [("1", "a"), ("2", "b")]


def test_a_header_longer_than_the_sample() -> None:
    names = ",".join(f"feature_{number}" for number in range(9000))
    assert rows(f"{names},item_id,title\n{',' * 9000}1,a\n") == [("1", "a")]


ERRORS = [
    ("item_id,title\n1,a\n2\n3,c,d\n4,e\n", r"2 values expected in a row, but row 3 has 1: '2'; rows like it: 2"),
    ("item_id::title\n1::a\n2::b::c\n", r"row 3 has 3: '2::b::c'; rows like it: 1"),
    ("item_id,title\nr1,1,a\nr2,2,b\n", r"row 2 has 3.*rows like it: 2.*row\.names = FALSE"),
    ('item_id, title\n1, "Matrix, The"\n', "row 2 has 3.*remove the space before each quotation mark"),
    ('"item_id,title\n1,a\n2,b\n', "line 1: a quotation mark is not closed"),
    ("item_id title\n1 a\n", "values must be separated; the header is 'item_id title'; set data.separator"),
    ("# made in 2020\n\nitem_id,title\n1,a\n", "row 2 looks like the header; remove what is above it"),
    ("item_id,title,title\n1,a,b\n", "more than one column 'title'"),
    ("", "the file is empty"),
    ("\n \n", "the file is empty"),
    ("\ufeff", "the file is empty"),
    ("\0" * 99, "the file is empty"),
    ("1,Heat\n2,Casino\n", r"first row is no header: '1,Heat'; .* --set data\.items_header=item_id,title;"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_errors_name_the_row_and_the_fix(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(text)


def test_the_names_suggested_for_a_file_without_a_header_can_be_used() -> None:
    text = "7\t318\t5\t964982703\tx\n"
    with pytest.raises(DataError) as caught:
        read(text, COLUMNS)
    names = str(caught.value).split("--set data.interactions_header=")[1].split(";")[0]
    assert rows(text, COLUMNS, header=tuple(names.split(","))) == [("7", "318", "964982703", "5")]
    with pytest.raises(DataError, match=r"interactions_header names 2 columns, but the first row has 5 values"):
        read(text, COLUMNS, header=("user_id", "item_id"))
