"""The training reference: its rows, and figures counted by hand."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from sella_rec.data.training_reference import describe, load_reference, write_reference

ROWS = pl.DataFrame(
    {
        "user_id": [1, 1, 1, 2, 2, 3],
        "item_id": [7, 8, 9, 7, 9, 7],
        "timestamp": [50, 10, 60, 20, 70, 86_400],
        "label": [1, 0, 1, 1, 0, 1],
        "split": ["train", "train", "test", "train", "valid", "test"],
    }
)
ITEMS = pl.DataFrame({"item_id": [7, 8, 9, 10], "title": ["The Moon", "The Étoile", "Moon 2", "Unrated"]})


def test_figures_counted_by_hand():
    figures = describe(ROWS, ITEMS)
    assert (figures["rows"], figures["users"], figures["items"]) == (6, 3, 3)
    assert (figures["from"], figures["until"]) == ("1970-01-01T00:00:10Z", "1970-01-02T00:00:00Z")
    assert figures["like_rate"] == pytest.approx(4 / 6, abs=1e-6)
    # of the two test rows one is of user 3 and one of item 9, which train has not
    assert (figures["unseen_users"], figures["unseen_items"]) == (0.5, 0.5)
    # item 7 alone is at least one in a hundred, and in ten
    assert figures["top_items"] == {"1%": 0.5, "10%": 0.5}
    assert figures["rows_per_user"] == {"10%": 1, "50%": 2, "90%": 3}
    # twelve words are rated: moon 5 times, the 4, 2 twice, étoile once
    assert figures["words"] == pytest.approx({"moon": 5 / 12, "the": 4 / 12, "2": 2 / 12, "étoile": 1 / 12}, abs=1e-6)


def test_what_is_written_is_read_oldest_first_with_ids_as_text(tmp_path: Path):
    write_reference(tmp_path, ROWS, ITEMS)
    ITEMS.write_parquet(tmp_path / "items.parquet")
    reference = load_reference(tmp_path)
    assert reference.rows["timestamp"].to_list() == sorted(ROWS["timestamp"])
    assert reference.rows.row(0) == ("1", "8", 10, 0)
    assert reference.titles.rows()[0] == ("7", "The Moon")
    assert reference.figures == describe(ROWS, ITEMS)
