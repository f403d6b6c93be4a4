"""Parquet files, whatever their columns that we do not need are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BytesIO

import polars as pl

from components.prepare_data.table import Table, make_table, short
from sella_rec.data.errors import DataError


def read_parquet(file: str, data: bytes, columns: Mapping[str, str]) -> Iterator[Table]:
    """The wanted columns in `data`, as the file types them; DataError if it cannot be read."""
    try:
        present = list(pl.read_parquet_schema(BytesIO(data)))
        wanted = [name for name in dict.fromkeys(columns.values()) if name in present]
        frame = pl.read_parquet(BytesIO(data), columns=wanted)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{file}: not a readable Parquet file: {short(error)}") from error
    yield make_table(file, frame, columns, present)
