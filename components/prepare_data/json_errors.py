"""What is wrong with JSON that could not be read, and how to make it readable."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from components.prepare_data.table import short
from sella_rec.data.errors import DataError


def reject_document(file: str, first: dict[str, Any], wanted: list[str]) -> None:
    """DataError if `first` is one object around all rows, such as `{"data": [...]}`."""
    if any(name in first for name in wanted):
        return
    for key, value in first.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            fix = f"convert it: jq -c '.[{json.dumps(key)}][]' IN.json > OUT.jsonl"
            raise DataError(f"{file}: one JSON object contains all rows in '{key}'; expected one object per row; {fix}")


def reject_unended(file: str, data: bytes, row: int) -> NoReturn:
    """Raise DataError for data whose first object does not end on its line."""
    try:
        whole, _ = json.JSONDecoder().raw_decode(data.decode().lstrip())
    except (ValueError, RecursionError):
        # the rest of it may be in the next part
        whole = None
    if isinstance(whole, dict):
        reject_document(file, whole, [])
    fix = "convert it: jq -c . IN.json > OUT.jsonl, or jq -c '.NAME[]' if one object contains all rows under NAME"
    raise DataError(f"{file}, row {row}: the object does not end on its line; expected one object per line; {fix}")


def blame_line(file: str, data: bytes, row: int, error: Exception) -> NoReturn:
    """Raise DataError for the first line of `data` that is not a JSON object; `row` is the number of the first."""
    rows = (line for line in data.split(b"\n") if line.strip())
    for number, line in enumerate(rows, start=row):
        try:
            if isinstance(json.loads(line, parse_constant=_no_constant, parse_float=_finite), dict):
                continue
            reason = "expected a JSON object"
        except RecursionError:
            reason = "nested too deeply"
        except ValueError as line_error:
            reason = getattr(line_error, "msg", str(line_error))
        text = line[:80].decode(errors="replace")
        raise DataError(f"{file}, row {number}: malformed JSON line: {reason} (got {text})") from error
    raise DataError(f"{file}: malformed JSON lines: {short(error)}; write the file again") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; give a number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large for a number")
    return number
