"""How a text table is written: the separator, whether there is a header, and the names of its columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import PurePosixPath

from sella_rec.data.errors import DataError

_SEPARATORS = (",", "\t", ";", "|", "::")
_SAMPLE_BYTES = 1 << 16
_SAMPLE_ROWS = 100
# GroupLens' own names, from the README in each archive: the files have no header
_PUBLISHED = {
    "ratings.dat": ["UserID", "MovieID", "Rating", "Timestamp"],
    "movies.dat": ["MovieID", "Title", "Genres"],
    "u.data": ["user id", "item id", "rating", "timestamp"],
    "u.item": ["movie id", "movie title", "release date", "video release date", "IMDb URL"],
}
_TYPED = re.compile(r"(.+):(?:token|float)(?:_seq)?")
_NUMBER = re.compile(r"\s*[-+]?\d+([.,]\d+)?\s*")
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class TextSettings:
    """What the user says about text files; none: detected.

    Attributes:
        encoding: of files without a byte order mark.
        separator: one or more characters between values.
        header: the columns' names, in order, of files without a header.
    """

    encoding: str | None = None
    separator: str | None = None
    header: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Dialect:
    """One file's way of writing.

    Attributes:
        separator: one or more characters.
        names: of the columns, in order.
        start: byte where the rows begin.
        first_row: number of the first row in messages; 2 below a header.
        width: values in a row.
        notes: remarks on what was detected.
    """

    separator: str
    names: list[str]
    start: int
    first_row: int
    width: int
    notes: tuple[str, ...]


def find_dialect(file: str, data: bytes, columns: Mapping[str, str], settings: TextSettings) -> Dialect:
    """The dialect of `data`, which is UTF-8, from its first lines.

    Args:
        columns: our names -> the files' names.

    Raises:
        DataError: an empty file, or one without a header whose columns have no names.
    """
    start = 0
    said = re.match(rb"(?i)\"?sep=(.)\"?(?:\r\n|\n|\r)", data[:16])
    notes: list[str] = []
    if said:
        start = said.end()
    sample = _sample(data, start)
    wanted = set(columns.values()) | set(settings.header or ())
    separator = settings.separator or (said and said[1].decode("latin-1"))
    if settings.separator and settings.separator not in sample:
        notes.append(f"contains no {settings.separator!r}, so that data.separator was not used")
        separator = None
    if separator is None:
        separator = _best_separator(sample, wanted)
    rows = sample_rows(sample, separator)
    if not rows:
        raise DataError(f"{file}: the file is empty; expected a header and rows")
    if separator != ",":
        notes.append(f"values are separated by {separator!r}")
    _check_first_row(file, rows, set(columns.values()))
    names, has_header = _names(file, rows[0], sample, columns, settings)
    width = _usual([len(row) for row in rows[1:]] or [len(names)])
    if not has_header:
        notes.append(f"has no header; its columns are {', '.join(names)}")
        return Dialect(separator, names, start, 1, len(rows[0]), tuple(notes))
    start += _header_bytes(sample, separator)
    if width == len(names) + 1 and not any(row[-1] for row in rows[1:] if len(row) == width):
        names = [*names, ""]
    elif width == len(names) - 1 and not names[-1]:
        names = names[:-1]
    return Dialect(separator, names, start, 2, len(names), tuple(notes))


def sample_rows(sample: str, separator: str) -> list[list[str]]:
    """The first rows that are not blank; none where quotation marks make no sense."""
    try:
        return list(islice((row for row in _reader(sample, separator) if _filled(row)), _SAMPLE_ROWS))
    except csv.Error:
        return [line.split(separator) for line in _lines(sample)[:_SAMPLE_ROWS] if line.strip(" \t\0")]


def _lines(text: str) -> list[str]:
    # str.splitlines cuts at other characters, too
    return re.split("\r\n|\n|\r", text)


def _filled(row: list[str]) -> bool:
    return any(cell.strip(" \t\0") for cell in row)


def _reader(sample: str, separator: str) -> Iterable[list[str]]:
    if len(separator) > 1:
        return (line.split(separator) for line in _lines(sample))
    return csv.reader(StringIO(sample, newline=""), delimiter=separator)


def _sample(data: bytes, start: int) -> str:
    end = start + _SAMPLE_BYTES
    if end < len(data):
        cut = max(data.rfind(b"\n", start, end), data.rfind(b"\r", start, end))
        # a header may be longer than the sample
        end = (cut if cut >= 0 else data.find(b"\n", end) % len(data)) + 1
    return data[start:end].decode()


def _best_separator(sample: str, wanted: set[str]) -> str:
    def fitness(separator: str) -> tuple[int, float, int, float]:
        rows = sample_rows(sample, separator)
        widths = [len(row) for row in rows]
        width = _usual(widths) if widths else 0
        if width < 2:
            return 0, 0, 0, 0
        known = len(wanted & set(clean_header(rows[0], wanted)))
        # in a tie it is the one that no space follows, as one does in titles
        spaced = sample.count(f"{separator} ") / max(sample.count(separator), 1)
        return known, round(widths.count(width) / len(widths), 1), width, -spaced

    return max(_SEPARATORS, key=fitness)


def _usual(widths: list[int]) -> int:
    return max(set(widths), key=widths.count)


def clean_header(cells: list[str], wanted: set[str]) -> list[str]:
    """Names without white space and quotation marks around them, and without RecBole's types (`user_id:token`)."""
    cells = [cell.strip().strip("\"'").strip() for cell in cells]
    typed = [_TYPED.fullmatch(cell) for cell in cells]
    if not all(typed):
        return cells
    return [cell if cell in wanted or not match else match[1] for cell, match in zip(cells, typed, strict=True)]


def _check_first_row(file: str, rows: list[list[str]], wanted: set[str]) -> None:
    """DataError where the first row cannot be the header, but holds it or stands above it."""
    if any("\n" in cell and sum(name in cell for name in wanted) > 1 for cell in rows[0]):
        raise DataError(f"{file}: malformed CSV: line 1: a quotation mark is not closed; remove it")
    if len(rows[0]) == 1 and sum(name in rows[0][0] for name in wanted) > 1:
        fix = "set data.separator to what stands between values, such as --set data.separator=space"
        raise DataError(f"{file}: values must be separated; the header is {rows[0][0][:200]!r}; {fix}")
    known = [len(wanted & set(clean_header(row, wanted))) for row in rows]
    if not known[0] and max(known) > 1:
        above = known.index(max(known))
        raise DataError(
            f"{file}: row {above + 1} looks like the header; remove what is above it, from {rows[0][0]!r} on"
        )


def _names(
    file: str, cells: list[str], sample: str, columns: Mapping[str, str], settings: TextSettings
) -> tuple[list[str], bool]:
    """The columns' names, and whether the first row holds them."""
    names = clean_header(cells, set(columns.values()))
    if set(names) & set(columns.values()):
        return names, True
    setting = "data.items_header" if "title" in columns else "data.interactions_header"
    line = _lines(sample.lstrip())[0][:200]
    if settings.header is not None:
        if len(settings.header) != len(cells):
            given = f"{setting} names {len(settings.header)} columns"
            raise DataError(
                f"{file}: {given}, but the first row has {len(cells)} values: {line!r}; name each, in order"
            )
        return list(settings.header), False
    published = _published(file)
    if published and len(cells) >= len(published):
        return [*published, *("" for _ in cells[len(published) :])], False
    if any(_NUMBER.fullmatch(cell) for cell in cells):
        order = [columns[field] for field in ("user_id", "item_id", "title", "rating", "timestamp") if field in columns]
        order += [f"column{number}" for number in range(len(order) + 1, len(cells) + 1)]
        example = ",".join(order[: len(cells)])
        fix = f"name the columns in their order, such as --set {setting}={example}; or add a header"
        raise DataError(f"{file}: the first row is no header: {line!r}; {fix}")
    return names, True


def _published(file: str) -> list[str] | None:
    name = PurePosixPath(file.lower()).name
    # behind it may stand .gz
    return next((names for known, names in _PUBLISHED.items() if name == known or name.startswith(f"{known}.")), None)


def _header_bytes(sample: str, separator: str) -> int:
    lines = 0
    if len(separator) == 1:
        reader = csv.reader(StringIO(sample, newline=""), delimiter=separator)
        next(row for row in reader if _filled(row))
        lines = reader.line_num
    else:
        lines = next(number for number, line in enumerate(_lines(sample), start=1) if line.strip(" \t\0"))
    text = sample.encode()
    end = next(islice(_LINE_END.finditer(text), lines - 1, None), None)
    return end.end() if end else len(text)
