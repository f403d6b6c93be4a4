"""Parquet files, whatever their columns that we do not need are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from io import BytesIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet

from components.prepare_data.table import Table, make_table, short
from sella_rec.data.errors import DataError

# it panics at zones other than UTC and Europe/Berlin, such as +05:30
_NOT_FOR_POLARS = re.compile(r"tz=(?!UTC\b|[A-Z][a-z]+/)|decimal256|extension<")


def read_parquet(file: str, data: bytes, columns: Mapping[str, str]) -> Iterator[Table]:
    """The wanted columns in `data`, as the file types them; DataError if it cannot be read."""
    try:
        # in nanoseconds, its default and polars', int96 ends in 2262
        source = pa.parquet.ParquetFile(pa.BufferReader(data), coerce_int96_timestamp_unit="us")
        present = source.schema_arrow.names
        wanted = [name for name in dict.fromkeys(columns.values()) if name in present]
        double = next((name for name in wanted if present.count(name) > 1), None)
        if double:
            raise DataError(f"{file}: more than one column '{double}'; rename or remove all but one")
        if _only_for_arrow(source):
            frame = to_polars(source.read(columns=wanted).select(wanted))
        else:
            # in a third of the time
            frame = pl.read_parquet(BytesIO(data), columns=wanted)
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{file}: not a readable Parquet file: {short(error)}; write or copy it again") from error
    yield make_table(file, frame, columns, present)


def _only_for_arrow(source: pa.parquet.ParquetFile) -> bool:
    schema = source.schema
    is_int96 = any(schema.column(number).physical_type == "INT96" for number in range(len(schema.names)))
    return is_int96 or bool(_NOT_FOR_POLARS.search(str(source.schema_arrow)))


def to_polars(table: pa.Table) -> pl.DataFrame:
    """`table` without the types that polars refuses: zones such as +05:30, decimals of 39 digits, extensions."""
    return pl.DataFrame([pl.Series(name, pl.from_arrow(_known(table[name]))) for name in table.column_names])


def _known(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(values.type, pa.BaseExtensionType):
        values = pa.chunked_array([chunk.storage for chunk in values.chunks], values.type.storage_type)
    if pa.types.is_timestamp(values.type) and values.type.tz:
        return values.cast(pa.timestamp(values.type.unit, "UTC"))
    return values.cast(pa.string()) if pa.types.is_decimal256(values.type) else values
