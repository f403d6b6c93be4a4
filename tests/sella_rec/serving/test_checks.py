"""What is no request is refused with the row, the field and the fix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sella_rec.model.ranker import RequestError
from sella_rec.serving.checks import checked

FIELDS, PARAMS = ("user_id", "history", "candidates"), ("top_n", "retrieve")


def check(rows: list[Any], params: dict[str, Any] | None = None, max_items: int = 10) -> pd.DataFrame:
    return checked(pd.DataFrame(rows), params or {}, FIELDS, PARAMS, max_items)


@pytest.mark.parametrize(
    ("rows", "params", "message"),
    [
        ([], {}, "no rows"),
        ([{}], {}, "no rows"),
        ([{"user": "1"}], {}, "user: unknown; known fields are user_id, history, candidates"),
        ([{"user_id": "1"}], {"top_k": 3}, "params.top_k: unknown; known parameters are top_n, retrieve"),
        ([{"user_id": 1}], {}, r"user_id: must be a string \(got 1\)"),
        ([{"candidates": "3"}], {}, r"candidates: must be a list of item_ids or titles \(got \'3\'\)"),
        ([{"history": 3.5}], {}, r"history: must be a list of item_ids or titles \(got 3\.5\)"),
        ([{"candidates": ["3", None]}], {}, r"candidates\[1\]: must be a string, .* \(got None\)"),
        ([{"user_id": "1"}, {"history": ["a", 7]}], {}, r"request 1: history\[1\]: must be a string, .* \(got 7\)"),
        ([{"candidates": ["a"] * 6}, {"candidates": ["a"] * 5}], {}, "candidates: 11 items .* limit of 10"),
        ([{"candidates": ["a"], "history": ["a"] * 11}], {}, "history: 11 items .* limit of 10"),
        ([{"user_id": "1"}], {}, "candidates: 100 items .* limit of 10"),
        ([{"user_id": "1"}], {"top_n": 3, "retrieve": 11}, "candidates: 11 items .* limit of 10"),
        ([{"user_id": "1"}] * 3, {"top_n": 4, "retrieve": 1}, "candidates: 12 items .* limit of 10"),
    ],
)
def test_refused(rows, params, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        check(rows, params)


def test_what_is_not_a_table_is_refused():
    with pytest.raises(RequestError, match="send the rows as dataframe_records"):
        checked({"user_id": np.array(["1"])}, {}, FIELDS, PARAMS, 10)


def test_fields_left_out_are_none_and_everything_else_is_as_it_was():
    rows = check([{"user_id": "1", "candidates": ["a", "b"]}, {"history": np.array(["c"]), "candidates": ["d"] * 8}])
    first, second = rows.to_dict("records")
    assert first == {"user_id": "1", "candidates": ["a", "b"], "history": None}
    assert (second["user_id"], second["candidates"], list(second["history"])) == (None, ["d"] * 8, ["c"])


def test_a_top_n_counts_what_the_llm_ranks_and_may_reach_the_limit():
    check([{"user_id": "1"}, {"user_id": "2"}], {"top_n": 5, "retrieve": 2})
