"""What the rules changed, and what is told about it."""

from __future__ import annotations

import json

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare_data.changes import Changes

TEXTS = st.lists(st.tuples(st.sampled_from(["a", " a", "b ", "1"]), st.sampled_from(["a", "b", None])), max_size=20)


@settings(max_examples=50, deadline=None)
@given(st.lists(TEXTS, max_size=3))
def test_rows_are_counted_over_all_files_with_at_most_three_examples(files: list[list[tuple[str, str | None]]]) -> None:
    changes = Changes()
    for pairs in files:
        before, after = (pl.Series([pair[side] for pair in pairs], dtype=pl.String) for side in (0, 1))
        changes.add("user_id", "white space", before, after)
    changed = [pair for pairs in files for pair in pairs if pair[0] != pair[1]]
    found = changes.to_dict()["changes"]
    if not changed:
        assert found == []
        return
    (change,) = found
    assert (change["field"], change["rule"], change["rows"]) == ("user_id", "white space", len(changed))
    assert len(change["examples"]) == min(3, len({before for before, _ in changed}))
    assert {tuple(example) for example in change["examples"]} <= set(changed)


def test_columns_and_rules_are_apart() -> None:
    changes = Changes()
    changes.add("user_id", "whole floats", pl.Series([1.0, 2.0]), pl.Series([1, 2]))
    changes.add("item_id", "whole floats", pl.Series([1, 2]), pl.Series(["1", "2"]))
    changes.add("item_id", "missing", pl.Series(["nan", None]), pl.Series([None, None], dtype=pl.String))
    assert changes.to_dict()["changes"] == [
        {"field": "user_id", "rule": "whole floats", "rows": 2, "examples": [["1.0", "1"], ["2.0", "2"]]},
        {"field": "item_id", "rule": "missing", "rows": 1, "examples": [["nan", None]]},
    ]
    json.dumps(changes.to_dict())


def test_a_remark_on_a_file_is_kept_once() -> None:
    changes = Changes()
    for text in ("read as cp1252", "times in milliseconds", "read as cp1252"):
        changes.note("r.csv", text)
    assert changes.to_dict()["notes"] == {"r.csv": ["read as cp1252", "times in milliseconds"]}
