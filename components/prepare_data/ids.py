"""Identifiers: one form for each, however a file writes it."""

from __future__ import annotations

import polars as pl

from components.prepare_data.changes import Changes
from components.prepare_data.missing import Missing
from components.prepare_data.plain import INVISIBLE, literal, stripped, wrong_type
from components.prepare_data.table import Table

# what some rule is about: not printable ASCII, blank ends, an opening quote or bracket, a number with a point or 1e+
_ODD = r"""[^ -~]|^[ "'`\[{]|^="| $|^[+-]?[0-9]+(?:\.|[eE]\+)"""
_QUOTED = (
    r"""^(?:=?"+([^"]*)"+|'+([^']*)'+|`+([^`]*)`+|\u{201C}+([^\u{201C}\u{201D}]*)\u{201D}+"""
    r"""|\u{201E}+([^\u{201C}\u{201E}]*)\u{201C}+|\u{2018}+([^\u{2018}\u{2019}]*)\u{2019}+"""
    r"""|\u{AB}+([^\u{AB}\u{BB}]*)\u{BB}+)$"""
)
_FLOAT = r"^-?(?:0|[1-9][0-9]*)\.0*$"
# hexadecimal hashes look like 12e4, but never have a point or a plus
_SCIENTIFIC = r"^[+-]?[0-9]+(?:\.[0-9]*[eE][+-]?|[eE]\+)[0-9]+$"
# whole numbers from here on are not all there are in a float of so many bits
_EXACT = 2**53
_EXACT_IN: dict[pl.DataType, int] = {pl.Float16(): 2**11, pl.Float32(): 2**24, pl.Float64(): _EXACT}
_LOST = "a float has lost the last digits of such an identifier; write this column as text or as integers"


def ids(table: Table, field: str, missing: Missing, changes: Changes) -> pl.Series:
    """Canonical identifiers: int64 if all are integers without leading zeros, else text; null where missing.

    Raises:
        DataError: a missing value, a fraction, a float that has lost digits, or a type that is no identifier.
    """
    values = table.frame[field]
    if values.dtype == pl.String:
        values = _canonical(table, field, values, changes)
        if _is_boolean(values.drop_nulls().head(1)) and _is_boolean(values) and values.n_unique() > 1:
            table.reject(field, values.is_not_null(), "true and false are no identifiers")
    elif not values.dtype.is_numeric():
        wrong_type(table, field, "integers or text")
    values = missing.nulls(table, field, values, changes)
    if values.dtype.is_float():
        values = _whole(table, field, values, changes)
    return _integers(values)


def _is_boolean(values: pl.Series) -> bool:
    """Whether every value is `true` or `false`, or missing."""
    return bool(values.str.to_lowercase().is_in(["true", "false"]).fill_null(True).all())


def _canonical(table: Table, field: str, values: pl.Series, changes: Changes) -> pl.Series:
    odd = values.str.contains(_ODD).fill_null(False)
    if not odd.any():
        return values
    counts = values.filter(odd).rename("raw").to_frame().group_by("raw", maintain_order=True).len()
    raw, rows = counts["raw"], counts["len"]
    text = raw
    for rule, apply in _RULES.items():
        after = apply(text)
        changes.add(field, rule, text, after, rows)
        text = after
    _reject_lost_and_nested(table, field, values, raw, text)
    after = text.str.replace(r"^-0\.0*$", "0").str.replace(r"^(-?[0-9]+)\.0*$", "$1")
    after = after.zip_with(text.str.contains(_FLOAT), text)
    changes.add(field, WRITTEN_AS_FLOAT, text, after, rows)
    changed = raw != after
    return values.replace(raw.filter(changed), after.filter(changed)) if changed.any() else values


def _reject_lost_and_nested(table: Table, field: str, values: pl.Series, raw: pl.Series, text: pl.Series) -> None:
    """DataError where `text`, the distinct values `raw` without their wrapping, is no identifier."""
    large = text.cast(pl.Float64, strict=False).abs() >= _EXACT
    lost = text.str.contains(_SCIENTIFIC) | (text.str.contains(_FLOAT) & large.fill_null(False))
    table.reject(field, values.is_in(raw.filter(lost).implode()).fill_null(False), _LOST)
    nested = pl.Series([value[:1] in ("[", "{") and literal(value) != value for value in text], dtype=pl.Boolean)
    rule = "an identifier must be one value, not a list or an object"
    table.reject(field, values.is_in(raw.filter(nested).implode()).fill_null(False), rule)


def _unquoted(text: pl.Series) -> pl.Series:
    while True:
        quoted = text.str.contains(_QUOTED)
        if not quoted.any():
            return text
        inner = text.str.extract_groups(_QUOTED).struct.unnest()
        inside = inner.select(pl.coalesce(pl.all())).to_series()
        text = stripped(inside.zip_with(quoted, text))


_RULES = {
    "invisible characters": lambda text: text.str.replace_all(f"[{INVISIBLE}]", ""),
    "Unicode form (NFC)": lambda text: text.str.normalize("NFC"),
    "white space": stripped,
    "quotes": _unquoted,
}
WRITTEN_AS_FLOAT = "integers written as floats"


def _whole(table: Table, field: str, values: pl.Series, changes: Changes) -> pl.Series:
    whole = values.cast(pl.Int64, strict=False)
    fraction = (values != whole).fill_null(values.is_not_null())
    large = (values.is_finite() & (values.abs() >= _EXACT_IN[values.dtype])).fill_null(False)
    table.reject(field, large, _LOST)
    table.reject(field, fraction, "an identifier must be a whole number or text")
    counts = values.rename("raw").to_frame().drop_nulls().group_by("raw", maintain_order=True).len()
    changes.add(field, WRITTEN_AS_FLOAT, counts["raw"], counts["raw"].cast(pl.Int64), counts["len"])
    return whole


def _integers(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        # text of 10 million hashes is told from integers by the first of them
        if not _round_trips(values.drop_nulls().head(100)):
            return values
        return values.cast(pl.Int64) if _round_trips(values) else values
    whole = values.cast(pl.Int64, strict=False)
    # unsigned hashes beyond int64 keep their digits as text
    return values.cast(pl.String) if whole.null_count() > values.null_count() else whole


def _round_trips(values: pl.Series) -> bool:
    return bool(values.cast(pl.Int64, strict=False).cast(pl.String).eq_missing(values).all())
