"""Each column of the contract: what is taken, and the message for what is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare_data import columns
from components.prepare_data.table import Table
from sella_rec.data.errors import DataError

NAMES = {
    "user_id": "userId",
    "item_id": "item_id",
    "timestamp": "time",
    "rating": "stars",
    "label": "liked",
    "title": "name",
}


def table(field: str, values: list[object] | pl.Series) -> Table:
    series = values if isinstance(values, pl.Series) else pl.Series(values, strict=False)
    return Table("r.csv", pl.DataFrame({field: series}), NAMES, [NAMES[field]], first_row=2)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pl.Series([3, 1], dtype=pl.UInt8), [3, 1]),
        (pl.Series([3.0, 1.0]), [3, 1]),
        (pl.Series(["x", "007"]), ["x", "007"]),
        (pl.Series(["x", "y"], dtype=pl.Categorical), ["x", "y"]),
        (pl.Series([2**64 - 1, 5], dtype=pl.UInt64), ["18446744073709551615", "5"]),
    ],
)
def test_ids_are_int64_or_strings(values: pl.Series, expected: list[object]) -> None:
    ids = columns.ids(table("user_id", values), "user_id")
    assert ids.to_list() == expected
    assert ids.dtype in (pl.Int64, pl.String)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, None], r"r\.csv, row 3, column 'userId': the identifier is empty; .* \(got None\)"),
        (["a", "b", " "], r"r\.csv, row 4, column 'userId': the identifier is empty; .* \(got ' '\)"),
        ([1.0, float("nan")], r"row 3, column 'userId': the identifier is empty; .* \(got nan\)"),
        ([1.0, 2.5], r"row 3, column 'userId': an identifier must be a whole number or text \(got 2.5\)"),
        ([1.0, float("inf")], r"row 3, column 'userId': an identifier must be a whole number or text \(got inf\)"),
        ([None, None], "row 2, column 'userId': the identifier is empty"),
        ([True, False], "column 'userId' is Boolean; expected integers or strings"),
    ],
)
def test_bad_ids(values: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        columns.ids(table("user_id", values), "user_id")


ZONES = st.one_of(st.none(), st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m))))


@settings(deadline=None, derandomize=True)
@given(st.lists(st.datetimes(datetime(1902, 1, 1), datetime(2100, 1, 1), timezones=ZONES), min_size=1))
def test_iso_times_agree_with_the_standard_library(moments: list[datetime]) -> None:
    seconds = columns.timestamps(table("timestamp", [m.isoformat() for m in moments])).to_list()
    aware = [m if m.tzinfo else m.replace(tzinfo=UTC) for m in moments]
    assert seconds == [int(m.replace(microsecond=0).timestamp()) for m in aware]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2000-01-01", 946684800),
        ("2000-01-01 00:00", 946684800),
        ("2000-01-01T00:00:01.999Z", 946684801),
        ("2000-01-01T02:00:00+0200", 946684800),
        ("2000-01-01T02:00:00 +02", 946684800),
        (" 946684800 ", 946684800),
        ("946684800.75", 946684800),
        ("-5", -5),
    ],
)
def test_times_as_text(text: str, expected: int) -> None:
    assert columns.timestamps(table("timestamp", [text])).to_list() == [expected]


def test_seconds_and_iso_may_be_mixed() -> None:
    assert columns.timestamps(table("timestamp", ["946684800", "2000-01-01"])).to_list() == [946684800, 946684800]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_typed_times(unit: str) -> None:
    moment = datetime(2000, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    aware = pl.Series([moment]).cast(pl.Datetime(unit, "Europe/Berlin"))
    naive = pl.Series([datetime(2000, 1, 1)]).cast(pl.Datetime(unit))
    for values in (aware, naive, naive.cast(pl.Date), pl.Series([946684800.9])):
        seconds = columns.timestamps(table("timestamp", values))
        assert seconds.to_list() == [946684800]
        assert seconds.dtype == pl.Int64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([946684800, 946684800000], r"r\.csv, row 3, column 'time': looks like milliseconds; .* \(got 946684800000\)"),
        (["2000-01-01", "946684800000"], "row 3, column 'time': looks like milliseconds"),
        (
            ["2000-01-01", "soon"],
            r"row 3, column 'time': not a timestamp; give Unix seconds or ISO 8601.* \(got 'soon'\)",
        ),
        (["2000-01-01", "2000-02-30"], r"row 3, column 'time': not a timestamp; .* \(got '2000-02-30'\)"),
        (["31.12.1999"], "row 2, column 'time': not a time"),
        ([1.0, None], "row 3, column 'time': the timestamp is empty"),
        (["1", ""], "row 3, column 'time': the timestamp is empty"),
        ([1.0, float("inf")], "row 3, column 'time': not a time"),
        ([timedelta(1)], "row 2, column 'time': not a time"),
    ],
)
def test_bad_times(values: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        columns.timestamps(table("timestamp", values))


def test_labels_from_ratings_and_as_they_are() -> None:
    assert columns.labels(table("rating", [3.9, 4.0, 5.0]), "rating", 4.0).to_list() == [0, 1, 1]
    assert columns.labels(table("rating", ["3.9", "4"]), "rating", 4.0).to_list() == [0, 1]
    for values in ([0, 1], [0.0, 1.0], ["0", "1"], [False, True]):
        assert columns.labels(table("label", values), "label", 4.0).to_list() == [0, 1]


@pytest.mark.parametrize(
    ("target", "values", "message"),
    [
        ("rating", [4.0, float("nan")], r"r\.csv, row 3, column 'stars': the rating is empty; leave .* \(got nan\)"),
        ("rating", [None, 4.0], "row 2, column 'stars': the rating is empty"),
        ("rating", ["4", ""], "row 3, column 'stars': the rating is empty"),
        ("rating", ["4", "good"], r"row 3, column 'stars': a rating must be a number \(got 'good'\)"),
        ("rating", ["4", "NaN"], "row 3, column 'stars': a rating must be a number"),
        ("rating", [4.0, float("inf")], "row 3, column 'stars': a rating must be a number"),
        ("label", [0, 1, 2], r"row 4, column 'liked': a label must be 0 or 1; .* \(got 2\)"),
        ("label", [0.5], "row 2, column 'liked': a label must be 0 or 1"),
        ("label", ["yes"], "row 2, column 'liked': a label must be a number"),
        ("label", [1, None], "row 3, column 'liked': the label is empty"),
    ],
)
def test_bad_ratings_and_labels(target: str, values: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        columns.labels(table(target, values), target, 4.0)


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
        ("<br> &nbsp;", None),
        ("", None),
        (None, None),
        (1984, "1984"),
    ],
)
def test_titles_become_plain_text(title: object, clean: str | None) -> None:
    assert columns.titles(table("title", [title])).to_list() == [clean]
