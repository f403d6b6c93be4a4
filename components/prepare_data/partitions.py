"""What a file's place says of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import polars as pl

from components.prepare_data.table import Table, integer_or_text
from sella_rec.data.input_files import File


def told_by_listing(file: File, tables: Iterable[Table]) -> Iterator[Table]:
    """The file's tables with the columns that Hive's folders (`user_id=7/`) stand for, and the listing's notes.

    A column that the file has itself is left as it is there.
    """
    notes = file.notes
    for table in tables:
        if file.partitions or notes:
            yield replace(_with_partitions(table, file), notes=(*notes, *table.notes))
        else:
            yield table
        notes = ()


def _with_partitions(table: Table, file: File) -> Table:
    new = {name: value for name, value in file.partitions.items() if name not in table.present}
    rows = table.frame.height
    columns = {
        field: integer_or_text(pl.Series([new[name]], dtype=pl.String)).new_from_index(0, rows)
        for field, name in table.columns.items()
        if name in new
    }
    return replace(table, frame=table.frame.with_columns(**columns), present=[*table.present, *new])
