"""JSON: one object a line, read in parts, or an array of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import chain
from typing import Any

import polars as pl

from components.prepare_data.json_array import array_lines
from components.prepare_data.json_errors import blame_line, reject_document, reject_unended
from components.prepare_data.table import Table, integer_or_text, make_table
from components.prepare_data.text import is_wide, to_utf8
from sella_rec.data.errors import DataError
from sella_rec.data.input_files import File


def read_json(file: File, columns: Mapping[str, str], encoding: str | None) -> Iterator[Table]:
    """The objects in `file`, in parts; only the wanted fields are read, as text, a field given twice as at first.

    Raises:
        DataError: not JSON, neither one object a line nor an array of objects, or lists and objects as values.
    """
    # other fields may be of any shape, and polars wants one type a field
    wanted = list(dict.fromkeys(columns.values()))
    present: dict[str, None] = {}
    row = 1
    for data, notes in _parts(file, encoding):
        first = _first_object(file.name, data, row)
        reject_document(file.name, first, wanted)
        try:
            frame = pl.read_ndjson(BytesIO(data), schema=dict.fromkeys(wanted, pl.String))
        except pl.exceptions.PolarsError as error:
            blame_line(file.name, data, row, error)
        present |= dict.fromkeys([*first, *(name for name in wanted if frame[name].count())])
        numbers = [name for name in wanted if not isinstance(first.get(name), str)]
        frame = frame.with_columns(integer_or_text(frame[name]) for name in numbers)
        frame = _nested(file.name, data, frame, columns, row)
        yield make_table(file.name, frame, columns, list(present), row, notes)
        row += frame.height
    if row == 1:
        raise DataError(f"{file.name}: the file is empty; expected one JSON object per line")


def _parts(file: File, encoding: str | None) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    """Whole lines as UTF-8, and remarks."""
    chunks = file.chunks()
    first = next((chunk for chunk in chunks if not chunk.isspace()), b"")
    if is_wide(first, encoding):
        first, chunks = file.read(), iter(())
    line = 1
    for data in chain([first], chunks):
        text, notes = to_utf8(file.name, data, encoding, line)
        if line == 1 and re.match(rb"\s*\[", text):
            del first, data, text
            text, notes = to_utf8(file.name, file.read(), encoding)
            for lines in array_lines(file.name, text):
                yield lines, notes
                notes = ()
            return
        line += data.count(b"\n")
        if b"\n" not in text:
            text = text.replace(b"\r", b"\n")
        if text and not text.isspace():
            yield text, notes


def _first_object(file: str, data: bytes, row: int) -> dict[str, Any]:
    line = next(line for line in BytesIO(data) if not line.isspace()).strip()
    try:
        first = json.loads(line)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and error.pos >= len(error.doc):
            reject_unended(file, data, row)
        blame_line(file, data, row, error)
    if not isinstance(first, dict):
        raise DataError(f"{file}, row {row}: expected a JSON object, got {line[:80].decode(errors='replace')}")
    return first


def _nested(file: str, data: bytes, frame: pl.DataFrame, columns: Mapping[str, str], row: int) -> pl.DataFrame:
    """Titles that are lists as lists; DataError for a list or an object elsewhere: polars gives their JSON as text."""
    objects: list[dict[str, Any]] = []
    for name in frame.columns:
        if frame[name].dtype != pl.String:
            continue
        found = (frame[name].str.starts_with("[") | frame[name].str.starts_with("{")).fill_null(False).arg_true()
        if found.is_empty():
            continue
        objects = objects or [_loads(line) for line in data.split(b"\n") if line.strip()]
        values = {at: objects[at][name] for at in found if not isinstance(objects[at][name], str)}
        for at, value in values.items():
            if name != columns.get("title") or not _is_flat_list(value):
                what = "an object" if isinstance(value, dict) else "a list"
                got = json.dumps(value, ensure_ascii=False)[:80]
                where = f"{file}, row {row + at}, column '{name}'"
                raise DataError(f"{where}: is {what}; expected one value (got {got})")
        if values:
            lists = {at: [str(each) for each in value if each is not None] for at, value in values.items()}
            texts = [lists.get(at, None if text is None else [text]) for at, text in enumerate(frame[name])]
            frame = frame.with_columns(pl.Series(name, texts, dtype=pl.List(pl.String)))
    return frame


def _is_flat_list(value: Any) -> bool:
    return isinstance(value, list) and not any(isinstance(each, list | dict) for each in value)


def _loads(line: bytes) -> Any:
    # of a name that is there twice polars takes the first
    return json.loads(line, object_pairs_hook=lambda pairs: dict(reversed(pairs)))
