"""The rows of Delta Lake and Iceberg tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from components.prepare_data.parquet import to_polars
from components.prepare_data.table import Table, make_table, short
from sella_rec.data.errors import DataError
from sella_rec.data.lakehouse import LakehouseTable

_BATCH_ROWS = 1_000_000


def read_lakehouse(table: LakehouseTable, columns: Mapping[str, str]) -> Iterator[Table]:
    """The newest state's rows in batches, without those that were deleted.

    Raises:
        DataError: the package is not installed, or the table cannot be read.
    """
    present, schema, batches = (_delta if table.kind == "delta" else _iceberg)(table.open(), list(columns.values()))
    rows = 0
    for part in _gathered(table, schema, batches):
        yield make_table(table.name, to_polars(part), columns, present, rows + 1)
        rows += part.num_rows


def _delta(opened: Any, columns: list[str]) -> tuple[list[str], pa.Schema, Any]:
    data = opened.to_pyarrow_dataset()
    present = data.schema.names
    scanner = data.scanner(columns=_wanted(columns, present))
    return present, scanner.projected_schema, scanner.to_batches()


def _iceberg(opened: Any, columns: list[str]) -> tuple[list[str], pa.Schema, Any]:
    present = [field.name for field in opened.schema().fields]
    reader = opened.scan(selected_fields=tuple(_wanted(columns, present))).to_arrow_batch_reader()
    return present, reader.schema, reader


def _wanted(columns: list[str], present: list[str]) -> list[str]:
    return [name for name in dict.fromkeys(columns) if name in present]


def _gathered(table: LakehouseTable, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Many short batches as few long ones; the last may be empty, so that there is one."""
    waiting: list[pa.RecordBatch] = []
    try:
        for batch in batches:
            waiting.append(batch)
            if sum(each.num_rows for each in waiting) >= _BATCH_ROWS:
                yield pa.Table.from_batches(waiting)
                waiting = []
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{table.name}: the {table.kind} table cannot be read: {short(error)}") from error
    yield pa.Table.from_batches(waiting, schema)
