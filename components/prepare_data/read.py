"""From files to tables whose columns have our names, whatever the format."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from io import BytesIO, TextIOWrapper
from pathlib import PurePosixPath
from typing import Any, NoReturn

import polars as pl
import pyarrow as pa
import pyarrow.csv

from components.prepare_data.table import Table, make_table
from sella_rec.data.errors import DataError
from sella_rec.data.input_files import File, read_files

# GroupLens' own names, from the README in the archive: the files have no header
_GROUPLENS = {
    "ratings.dat": ["UserID", "MovieID", "Rating", "Timestamp"],
    "movies.dat": ["MovieID", "Title", "Genres"],
}


def read_tables(uri: str, columns: Mapping[str, str]) -> Iterator[Table]:
    """Read every file behind `uri`; `columns` maps our names to the files'.

    CSV and JSON columns come back as int64 where every value is a whole number as text, else as strings; a JSON
    string stays a string. Parquet keeps its types.

    Raises:
        DataError: as `read_files`, and for a file that is empty, malformed, or holds lists where values belong.
    """
    for file in read_files(uri):
        if file.kind == "json":
            yield from _read_json(file, columns)
        else:
            yield _PARSE[file.kind](file.name, file.read(), columns)


def _parse_csv(path: str, data: bytes, columns: Mapping[str, str]) -> Table:
    # pyarrow's parser because polars' takes rows with too few fields, and with too many when columns are selected
    read = pa.csv.ReadOptions(use_threads=False)
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    try:
        header = next(csv.reader([data.split(b"\n", 1)[0].decode("utf-8-sig")]), [])
        wanted = [name for name in dict.fromkeys(columns.values()) if name in header]
        _check_quotes(data)
        convert = pa.csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.large_string()))
        arrow = pa.csv.read_csv(BytesIO(data), read, parse, convert)
    except (pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
        rule = "expected UTF-8 text with a header, values separated by commas and quoted if they contain a comma"
        raise DataError(f"{path}: malformed CSV: {_short(error)}; {rule}") from error
    for name in wanted:
        if header.count(name) > 1:
            raise DataError(f"{path}: more than one column '{name}'; rename or remove all but one")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise DataError(f"{path}: values must be separated by commas; the header is {header[0]!r}")
    frame = pl.DataFrame(pl.from_arrow(arrow.select(wanted))) if wanted else pl.DataFrame()
    return make_table(path, _integers(frame, wanted), columns, header, first_row=2)


def _check_quotes(data: bytes) -> None:
    """csv.Error for a quotation mark that is never closed: pyarrow would read the rows behind it as one value."""
    if b'"' not in data:
        return
    rows = 0
    try:
        for _ in csv.reader(TextIOWrapper(BytesIO(data), "utf-8-sig", newline=""), strict=True):
            rows += 1
    except csv.Error as error:
        raise csv.Error(f"Row #{rows + 1}: quotation mark not closed or not doubled ({error})") from error


def _parse_dat(path: str, data: bytes, columns: Mapping[str, str]) -> Table:
    header = _GROUPLENS.get(PurePosixPath(path).name.lower())
    if header is None:
        raise DataError(f"{path}: unknown .dat file; expected GroupLens' {' or '.join(_GROUPLENS)}")
    # a separator of one byte that no text holds
    text = data.decode("latin-1").replace("::", "\x1f").encode()
    schema = dict.fromkeys(header, pl.String)
    try:
        frame = pl.read_csv(BytesIO(text), separator="\x1f", has_header=False, schema=schema, quote_char=None)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: malformed; expected {'::'.join(header)} in each row: {_short(error)}") from error
    return make_table(path, _integers(frame, header), columns, header)


def _read_json(file: File, columns: Mapping[str, str]) -> Iterator[Table]:
    # other fields may be of any shape, and polars wants one type a field: so only ours are read, as text
    wanted = list(dict.fromkeys(columns.values()))
    present: dict[str, None] = {}
    row = 1
    for data in file.chunks():
        if data.isspace():
            continue
        first = _first_object(file.name, data, row)
        try:
            frame = pl.read_ndjson(BytesIO(data), schema=dict.fromkeys(wanted, pl.String))
        except pl.exceptions.PolarsError as error:
            _blame_line(file.name, data, row, error)
        present |= dict.fromkeys([*first, *(name for name in wanted if frame[name].count())])
        numbers = [name for name in wanted if not isinstance(first.get(name), str)]
        yield make_table(file.name, _integers(frame, numbers), columns, list(present), row)
        row += frame.height
    if row == 1:
        raise DataError(f"{file.name}: the file is empty")


def _parse_parquet(path: str, data: bytes, columns: Mapping[str, str]) -> Table:
    try:
        present = list(pl.read_parquet_schema(BytesIO(data)))
        wanted = [name for name in dict.fromkeys(columns.values()) if name in present]
        frame = pl.read_parquet(BytesIO(data), columns=wanted)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {_short(error)}") from error
    return make_table(path, frame, columns, present)


_PARSE = {"csv": _parse_csv, "dat": _parse_dat, "parquet": _parse_parquet}


def _integers(frame: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Text columns as int64 where that loses nothing: `007` and `1.0` stay text."""
    for name in names:
        numbers = frame[name].cast(pl.Int64, strict=False)
        if numbers.cast(pl.String).eq_missing(frame[name]).all():
            frame = frame.with_columns(numbers)
    return frame


def _first_object(path: str, data: bytes, row: int) -> dict[str, Any]:
    line = next(line for line in BytesIO(data) if not line.isspace())
    if line[:1] == b"[":
        raise DataError(f"{path}: contains a JSON array; expected one object per line (convert it with jq -c '.[]')")
    try:
        first = json.loads(line)
    except ValueError as error:
        _blame_line(path, data, row, error)
    if not isinstance(first, dict):
        raise DataError(f"{path}, row {row}: expected a JSON object, got {line[:80].decode(errors='replace')}")
    return first


def _blame_line(path: str, data: bytes, row: int, error: Exception) -> NoReturn:
    rows = (line for line in data.splitlines() if line.strip())
    for number, line in enumerate(rows, start=row):
        try:
            if isinstance(json.loads(line, parse_constant=_no_constant), dict):
                continue
            reason = "expected a JSON object"
        except ValueError as line_error:
            reason = getattr(line_error, "msg", str(line_error))
        text = line[:80].decode(errors="replace")
        raise DataError(f"{path}, row {number}: malformed JSON line: {reason} (got {text})") from error
    raise DataError(f"{path}: malformed JSON lines: {_short(error)}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; give a number")


def _short(error: Exception) -> str:
    return str(error).split("\n")[0][:200]
