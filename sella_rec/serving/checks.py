"""Checks requests: known fields, ids and titles as strings, not too many of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd
from mlflow.pyfunc.scoring_server import SERVING_PARAMS_KEY, SUPPORTED_FORMATS

from sella_rec.model.ranker import RETRIEVE, TOP_N, RequestError

_LISTS = ("candidates", "history")
_KEYS = (*sorted(SUPPORTED_FORMATS), SERVING_PARAMS_KEY)


def check_keys(body: bytes) -> None:
    """Reject unknown keys of a body, which MLflow's server would ignore.

    Raises:
        RequestError: the message names the key.
    """
    try:
        parsed = json.loads(body)
    except ValueError:
        # CSV or Parquet, or else MLflow says what is wrong
        return
    except RecursionError as error:
        raise RequestError("the body is nested too deeply") from error
    if isinstance(parsed, dict):
        _check_names(parsed, _KEYS, "known keys are")


def checked(
    data: Any, params: Mapping[str, Any], fields: Collection[str], allowed: Collection[str], max_items: int
) -> pd.DataFrame:
    """The rows of a request, with None for what is left out.

    Args:
        data: as MLflow's server reads a body without regard to the signature.
        fields: of a row.
        allowed: names of parameters.
        max_items: of candidates and of histories, over all rows; a row without candidates counts as many as the LLM
            ranks for its top-N.

    Raises:
        RequestError: the message names the row (if there are several), the field and the fix.
    """
    if not isinstance(data, pd.DataFrame):
        raise RequestError("instances, inputs: not supported; send the rows as dataframe_records or dataframe_split")
    if data.empty:
        raise RequestError("no rows with any field: send one row per user")
    _check_names(data.columns, fields, "known fields are")
    _check_names(params, allowed, "known parameters are", "params.")
    rows = data.astype(object).where(data.notna(), None)
    for n, row in enumerate(rows.to_dict("records")):
        _check_row(row, f"request {n}: " if len(rows) > 1 else "")
    _check_size(rows, params, max_items)
    return rows


def _check_names(given: Any, known: Collection[str], what: str, prefix: str = "") -> None:
    for name in given:
        if name not in known:
            raise RequestError(f"{prefix}{name}: unknown; {what} {', '.join(known)}")


def _check_row(row: Mapping[Any, Any], where: str) -> None:
    if not isinstance(row.get("user_id"), str | None):
        raise RequestError(f"{where}user_id: must be a string (got {row['user_id']!r})")
    for field in _LISTS:
        items = row.get(field)
        if items is None:
            continue
        # arrays are what Parquet holds
        if isinstance(items, str) or not hasattr(items, "__len__"):
            raise RequestError(f"{where}{field}: must be a list of item_ids or titles (got {items!r})")
        for n, item in enumerate(items):
            if not isinstance(item, str):
                raise RequestError(f"{where}{field}[{n}]: must be a string, an item_id or a title (got {item!r})")


def _check_size(rows: pd.DataFrame, params: Mapping[str, Any], max_items: int) -> None:
    wanted = (params.get("top_n", TOP_N), params.get("retrieve", RETRIEVE))
    # the signature rejects what is not a number, with the parameter's name
    ranked = max((n for n in wanted if isinstance(n, int)), default=0)
    for field, otherwise in (("candidates", ranked), ("history", 0)):
        cells = rows[field] if field in rows else [None] * len(rows)
        n = sum(otherwise if items is None else len(items) for items in cells)
        if n > max_items:
            raise RequestError(
                f"{field}: {n} items in one request, more than the limit of {max_items}; split the request"
            )
