"""The columns of the input contract: from what a file holds to our types, or one clear error."""

from __future__ import annotations

import html

import polars as pl

from components.prepare_data.table import Table
from sella_rec.data.errors import DataError

# 1e11 seconds is the year 5138, and 1e11 milliseconds is March 1973
MILLISECONDS = 1e11
_ISO = (
    r"^(?<day>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?<minutes>\d\d:\d\d)(?<seconds>:\d\d)?(?:[.,]\d+)? ?(?:[Zz]|(?<zone>[+-]\d\d)(?::?(?<rest>\d\d))?)?)?$"
)
_TAGS = (
    "a|abbr|b|big|blockquote|br|center|cite|code|dd|div|dl|dt|em|font|h[1-6]|hr|i|img|li|ol|p|pre|q|s|script|small|"
    "span|strike|strong|style|sub|sup|table|tbody|td|th|tr|tt|u|ul"
)


def ids(table: Table, field: str) -> pl.Series:
    """Identifiers as int64 (any integers, and floats that are whole) or strings.

    Raises:
        DataError: empty values, fractions, or a type that is no identifier.
    """
    values = table.frame[field]
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.Null:
        values = values.cast(pl.Int64)
    table.reject(field, _empty(values), "the identifier is empty; leave such rows out")
    if values.dtype.is_float():
        table.reject(
            field,
            values != values.cast(pl.Int64, strict=False).fill_null(0),
            "an identifier must be a whole number or text",
        )
    if values.dtype == pl.String:
        return values
    if not values.dtype.is_numeric():
        where = f"{table.file}: column '{table.columns[field]}'"
        raise DataError(f"{where} is {values.dtype}; expected integers or strings")
    whole = values.cast(pl.Int64, strict=False)
    # unsigned hashes beyond int64 keep their value as text
    return values.cast(pl.String) if whole.null_count() else whole


def timestamps(table: Table) -> pl.Series:
    """Unix seconds, int64, fractions cut off; times without a zone are taken as UTC.

    Raises:
        DataError: an empty value, milliseconds, or neither Unix seconds nor ISO 8601.
    """
    values = table.frame["timestamp"]
    table.reject("timestamp", _empty(values), "the timestamp is empty; leave such rows out")
    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        return values.cast(pl.Datetime("us", getattr(values.dtype, "time_zone", None))).dt.epoch("s")
    numbers = _numbers(values)
    milliseconds = (numbers.abs() >= MILLISECONDS).fill_null(False) & numbers.is_finite().fill_null(False)
    table.reject("timestamp", milliseconds, "looks like milliseconds; give Unix seconds (divide by 1000) or ISO 8601")
    seconds = numbers.floor().cast(pl.Int64, strict=False)
    if values.dtype == pl.String:
        seconds = seconds.zip_with(numbers.is_not_null(), _iso_seconds(values))
    rule = "not a timestamp; give Unix seconds or ISO 8601, such as 2024-05-31T12:00:00Z"
    table.reject("timestamp", seconds.is_null(), rule)
    return seconds


def labels(table: Table, target: str, like_threshold: float) -> pl.Series:
    """int8, 1 for a like: the `label` as it is, or a `rating` at or above `like_threshold`.

    Raises:
        DataError: empty, not a finite number, or a label other than 0 and 1.
    """
    values = table.frame[target]
    table.reject(target, _empty(values), f"the {target} is empty; leave such rows out")
    numbers = _numbers(values)
    table.reject(target, ~numbers.is_finite().fill_null(False), f"a {target} must be a number")
    if target == "label":
        rule = "a label must be 0 or 1; for another scale, set data.columns.rating to this column instead"
        table.reject(target, ~numbers.is_in([0.0, 1.0]), rule)
        return numbers.cast(pl.Int8)
    return (numbers >= like_threshold).cast(pl.Int8)


def titles(table: Table, reject: str | None = None) -> pl.Series:
    """Plain text on one line, null where nothing is left: HTML entities replaced, tags and control characters out.

    A title that holds the text `reject` is null.
    """
    values = table.frame["title"].cast(pl.String)
    if reject is not None:
        values = pl.select(pl.when(~values.str.contains(reject, literal=True)).then(values)).to_series()
    entities = values.str.contains("&", literal=True).fill_null(False)
    if entities.any():
        plain = [html.unescape(text) if has else text for text, has in zip(values, entities, strict=True)]
        values = pl.Series(plain, dtype=pl.String)
    values = values.str.replace_all(rf"(?i)</?(?:{_TAGS})(?:\s[^<>]*)?/?>", " ")
    values = values.str.replace_all(r"[\s\p{Cc}]+", " ").str.strip_chars()
    return pl.select(pl.when(values != "").then(values)).to_series().rename("title")


def _empty(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        return values.str.strip_chars().fill_null("") == ""
    return values.is_nan().fill_null(True) if values.dtype.is_float() else values.is_null()


def _numbers(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    if values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.String):
        return values.cast(pl.Float64, strict=False)
    return pl.Series(values.name, [None], dtype=pl.Float64).new_from_index(0, len(values))


def _iso_seconds(values: pl.Series) -> pl.Series:
    part = values.str.strip_chars().str.extract_groups(_ISO).struct.unnest()
    text = pl.concat_str(
        "day",
        pl.lit("T"),
        pl.col("minutes").fill_null("00:00"),
        pl.col("seconds").fill_null(":00"),
        pl.col("zone").fill_null("+00"),
        pl.col("rest").fill_null("00"),
    )
    return part.select(text.str.to_datetime("%Y-%m-%dT%H:%M:%S%z", strict=False).dt.epoch("s")).to_series()
