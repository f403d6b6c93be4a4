"""Tables of one column, as the readers make them."""

from __future__ import annotations

import polars as pl

from components.prepare_data.missing import Missing
from components.prepare_data.table import Table, make_table
from sella_rec.config import DataConfig

NAMES = {
    "user_id": "userId",
    "item_id": "item_id",
    "timestamp": "time",
    "rating": "stars",
    "label": "liked",
    "title": "name",
}
FAIL = Missing.of(DataConfig())
DROP = Missing.of(DataConfig(missing_rows="drop"))


def table(field: str, values: list[object] | pl.Series, file: str = "r.csv") -> Table:
    """`values` as column `field` of a CSV file."""
    series = values if isinstance(values, pl.Series) else pl.Series(values, strict=False)
    return make_table(file, pl.DataFrame({NAMES[field]: series}), NAMES, [NAMES[field]], first_row=2)
