"""From files to tables whose columns have our names, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from components.prepare_data.delimited import read_delimited
from components.prepare_data.dialect import TextSettings
from components.prepare_data.json_lines import read_json
from components.prepare_data.parquet import read_parquet
from components.prepare_data.table import Table
from sella_rec.data.input_files import read_files

_AS_DETECTED = TextSettings()


def read_tables(uri: str, columns: Mapping[str, str], settings: TextSettings = _AS_DETECTED) -> Iterator[Table]:
    """Read every file behind `uri`; `columns` maps our names to the files'.

    CSV and JSON columns come back as int64 where every value is a whole number as text, else as strings; a JSON
    string stays a string. Parquet keeps its types.

    Raises:
        DataError: as `read_files`, and for a file that is empty, malformed, or holds lists where values belong.
    """
    for file in read_files(uri):
        if file.kind == "json":
            yield from read_json(file, columns, settings.encoding)
        elif file.kind == "parquet":
            yield from read_parquet(file.name, file.read(), columns)
        else:
            yield from read_delimited(file.name, file.read(), columns, settings)
