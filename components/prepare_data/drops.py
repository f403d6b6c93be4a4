"""What was dropped before an error, told with it: the cause is often there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from components.prepare_data.report import DROPPED
from sella_rec.data.errors import DataError


@contextmanager
def drops_told(counts: Mapping[str, int | str]) -> Iterator[None]:
    """Add to a DataError of the block what the rules have dropped.

    Args:
        counts: rows by rule, as far as they have come; those that are filled while the block runs count too.
    """
    try:
        yield
    except DataError as error:
        dropped = [(rule, int(counts.get(rule, 0))) for rule in DROPPED if rule.startswith("rows_")]
        told = ", ".join(f"{rows:,} {DROPPED[rule][0]} ({rule})" for rule, rows in dropped if rows)
        if not told:
            raise
        of = f", of {int(counts['rows_read']):,} rows read" if "rows_read" in counts else ""
        # in brackets, so that a setting to paste stands alone
        raise DataError(f"{error} (dropped before{of}: {told})") from error
