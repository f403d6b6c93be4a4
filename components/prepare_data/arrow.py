"""Arrow's own files: IPC files and streams, and Feather of both versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.feather

from components.prepare_data.parquet import to_polars
from components.prepare_data.table import Table, make_table, short
from sella_rec.data.errors import DataError


def read_arrow(file: str, data: bytes, columns: Mapping[str, str]) -> Iterator[Table]:
    """The wanted columns in `data`, as the file types them; DataError if it cannot be read."""
    try:
        table = _read(data)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a readable Arrow file: {short(error)}; write or copy it again") from error
    wanted = [name for name in dict.fromkeys(columns.values()) if name in table.column_names]
    for name in wanted:
        if table.column_names.count(name) > 1:
            raise DataError(f"{file}: more than one column '{name}'; rename or remove all but one")
    yield make_table(file, to_polars(table.select(wanted)), columns, table.column_names)


def _read(data: bytes) -> pa.Table:
    if data.startswith(b"ARROW1"):
        return pa.ipc.open_file(data).read_all()
    if data.startswith(b"FEA1"):
        return pa.feather.read_table(pa.BufferReader(data))
    return pa.ipc.open_stream(data).read_all()
