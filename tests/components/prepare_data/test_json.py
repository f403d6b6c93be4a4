"""JSON lines and arrays become tables, and what is neither one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare_data import json_array
from components.prepare_data.json_array import array_lines
from components.prepare_data.read import read_tables
from components.prepare_data.table import Table
from sella_rec.data.errors import DataError

COLUMNS = {"user_id": "user_id", "item_id": "item_id", "timestamp": "timestamp", "rating": "rating"}
ITEMS = {"item_id": "item_id", "title": "title"}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[Table]]:
    def read_json(data: str | bytes, columns: dict[str, str] = ITEMS) -> list[Table]:
        (tmp_path / "r.json").write_bytes(data.encode() if isinstance(data, str) else data)
        return list(read_tables(str(tmp_path / "r.json"), columns))

    return read_json


OBJECTS = [{"item_id": 1, "title": "Amélie, [a]", "more": [{"x": "}"}]}, {"more": {}, "title": None, "item_id": 2}]
WAYS = {
    "lines": "\n".join(map(json.dumps, OBJECTS)) + "\n",
    "blank lines": "\n \n" + "\n\n\n".join(map(json.dumps, OBJECTS)) + "\n\n",
    "CRLF": "\r\n".join(map(json.dumps, OBJECTS)) + "\r\n",
    "CR": "\r".join(map(json.dumps, OBJECTS)),
    "marks": "\ufeff" + "\n\ufeff".join(map(json.dumps, OBJECTS)) + "\n",
    "accents": "\n".join(json.dumps(each, ensure_ascii=False) for each in OBJECTS) + "\n",
    "array": json.dumps(OBJECTS),
    "array over lines": "\n " + json.dumps(OBJECTS, indent=2) + "\n",
    "array with mark": "\ufeff" + json.dumps(OBJECTS, ensure_ascii=False),
}


@pytest.mark.parametrize(
    ("way", "encoding"),
    [*product(WAYS, ["utf-8", "utf-16", "utf-16-le"]), *((way, "cp1252") for way in WAYS if "mark" not in way)],
)
def test_every_way_to_write_objects(read: Callable[..., list[Table]], way: str, encoding: str) -> None:
    (table,) = read(WAYS[way].encode(encoding))
    assert table.frame.rows() == [(1, "Amélie, [a]"), (2, None)]
    assert (not table.notes) == (encoding == "utf-8" or (encoding == "cp1252" and WAYS[way].isascii()))


NUMBERS = [
    ("9223372036854775808", "9223372036854775808"),
    ("123456789012345678901234567890", "123456789012345678901234567890"),
    ("-9223372036854775809", "-9223372036854775809"),
    ("9223372036854775807", 9223372036854775807),
    ("1.50", "1.5"),
    ('"1"', "1"),
    ('"01"', "01"),
    ("true", "true"),
    ("null", None),
]


@pytest.mark.parametrize("around", ["%s\n", "[%s]"])
@pytest.mark.parametrize(("written", "expected"), NUMBERS)
def test_values_keep_their_digits(
    read: Callable[..., list[Table]], written: str, expected: str | int, around: str
) -> None:
    (table,) = read(around % f'{{"item_id": {written}, "title": "a"}}')
    assert table.frame["item_id"].to_list() == [expected]


def test_of_a_field_that_is_there_twice_the_first_counts(read: Callable[..., list[Table]]) -> None:
    twice = '{"item_id": 1, "item_id": 2, "title": ["a"], "title": "b"}'
    assert read(twice)[0].frame.rows() == read(f"[{twice}]")[0].frame.rows() == [(1, ["a"])]


@pytest.mark.parametrize("around", ["%s\n", "[%s]"])
def test_titles_that_are_lists_stay_lists(read: Callable[..., list[Table]], around: str) -> None:
    objects: list[Any] = ["[REC]", ["Heat", 'Michael "M" Mann'], None, "Casino", [], [1, None]]
    text = ("," if "[" in around else "\n").join(
        json.dumps({"item_id": str(number), "title": title}) for number, title in enumerate(objects)
    )
    (table,) = read(around % text)
    assert table.frame["title"].to_list() == [["[REC]"], objects[1], None, ["Casino"], [], ["1"]]
    assert read('{"item_id": 1, "title": "[REC]"}')[0].frame.rows() == [(1, "[REC]")]


NOT_ONE_VALUE = [
    ('{"item_id": 1}\n{"item_id": [2]}', r"row 2, column 'item_id': is a list; expected one value \(got \[2\]"),
    ('{"item_id": "[x]"}\n{"item_id": {"$oid": "5f"}}', r"row 2, column 'item_id': is an object; .*\$oid"),
    ('{"item_id": 1, "title": {"en": "a"}}', "row 1, column 'title': is an object"),
    ('{"item_id": 1, "title": [["a"]]}', "row 1, column 'title': is a list"),
]


@pytest.mark.parametrize(("text", "message"), NOT_ONE_VALUE)
def test_lists_and_objects_as_values_are_refused(read: Callable[..., list[Table]], text: str, message: str) -> None:
    array = text.replace("}\n", "},")
    for data in (text, f"[{array}]"):
        with pytest.raises(DataError, match=rf"r\.json, {message}"):
            read(data)


NOT_ROWS = [
    ('{"data": [{"item_id": 1}]}', r"""one JSON object contains all rows in 'data'.*jq -c '\.\["data"\]\[\]'"""),
    ('{\n "n": 1, "data": [\n{"item_id": 1}]}\n', r"contains all rows in 'data'"),
    ('{\n "n": 1, "data": [\n{"item_id": 1}]\n}', r"row 1: the object does not end on its line.*jq -c '\.NAME\[\]'"),
    ('{\n "item_id": 1\n}\n{\n "item_id": 2\n}', r"row 1: the object does not end on its line.*jq -c \. "),
    ('[{"item_id": 1}, 3]', "row 2: expected a JSON object, got 3"),
    ('[{"item_id": 1}, {"item_id": ]', "row 2: malformed JSON: Expecting value"),
    ('[{"item_id": 1}, {"item_id": 2}', "after row 2: the array is not closed; the file may be cut off"),
    ('[{"item_id": 1}] {"item_id": 2}', "after row 1: more stands behind the array"),
    ("[]", "the file is empty"),
    ("\ufeff", "the file is empty"),
    ('[{"item_id": NaN}]', "row 1: malformed JSON line: NaN is not JSON"),
    ('{"item_id": 1}\n{"item_id": 1E400}', "row 2: malformed JSON line: 1E400 is too large"),
    ("{'item_id': 1}", "row 1: malformed JSON line: .*double quotes"),
]


@pytest.mark.parametrize(("text", "message"), NOT_ROWS)
def test_what_is_no_list_of_objects_is_an_error(read: Callable[..., list[Table]], text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(text)


@pytest.mark.parametrize("depth", [5000, 100_000])
@pytest.mark.parametrize("before", ["", '{"item_id": 1}\n'])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_an_error(
    read: Callable[..., list[Table]], opening: str, closing: str, before: str, depth: int
) -> None:
    bomb = f'{{"more": {opening * depth}1{closing * depth}}}'
    with pytest.raises(DataError, match=r"row \d.* nested too deeply"):
        read(before + bomb)
    with pytest.raises(DataError, match="nested too deeply"):
        read(f"[{bomb}]")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3)), st.integers(1, 40), st.sampled_from([None, 1])
)
def test_an_array_in_pieces_is_its_objects(objects: list[dict[str, Any]], size: int, indent: int | None) -> None:
    data = json.dumps(objects, indent=indent, ensure_ascii=False).encode("utf-8", "replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "_PIECE_BYTES", size)
        lines = b"".join(array_lines("r.json", data)).split(b"\n")
    assert [json.loads(line) for line in lines[:-1]] == json.loads(data)


def test_a_field_missing_from_the_first_objects(read: Callable[..., list[Table]]) -> None:
    (table,) = read('{"other": 1}\n{"title": "a"}\n{"item_id": 5}\n')
    assert table.frame.sort("item_id").rows() == [(None, None), (None, "a"), (5, None)]
    assert pl.Series(table.present).to_list() == ["other", "item_id", "title"]
