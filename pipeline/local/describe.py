"""`sella data`: validates a data set and describes it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from components.prepare_data.report import Report
from components.prepare_data.step import DROPPED, prepare_data
from sella_rec.config import Config
from sella_rec.data.dataset import SPLITS
from sella_rec.tracking.tracker import Tracker

_COLUMNS = {
    "rows": "rows",
    "users": "users",
    "items": "items",
    "like_share": "likes",
    "warm_rows": "warm",
    "cold_rows": "cold",
    "history_mean": "history",
    "from": "from",
    "until": "until",
}


def describe_data(config: Config, output: Path | None, console: Console) -> None:
    """Prepare the data as a run would, print the report, and keep the folder if `output` is given.

    Raises:
        DataError: the data violate the input contract.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = prepare_data(config, output or Path(folder) / "data", Tracker())
    print_report(report, console)
    if output:
        console.print(f"\nPrepared data written to {output}/")


def print_report(report: Report, console: Console) -> None:
    """What was read, what was dropped and why, and the splits."""
    console.print(f"interactions  {report['interactions']}\nitems         {report['items']}")
    console.print(
        f"\n{report['rows']:,} interactions of {report['users']:,} users with {report['items_with_rows']:,} of "
        f"{report['items_kept']:,} items; {_percent(report['like_share'])} are likes"
    )
    dropped = [f"{report[rule]:,} {rule.replace('_', ' ')}" for rule in DROPPED if report[rule]]
    console.print(f"dropped: {', '.join(dropped) or 'nothing'}")
    console.print(
        f"titles: {report['title_characters_mean']:.0f} characters on average, "
        f"95 % have at most {report['title_characters_p95']}, the longest has {report['title_characters_max']}"
    )
    console.print(_splits(report))
    console.print(
        f"split: {report['split']}; warm: user and item both in train; history: mean number of liked items before a row"
    )


def _splits(report: Report) -> Table:
    table = Table("split")
    for heading in _COLUMNS.values():
        table.add_column(heading, justify="right")
    for name in SPLITS:
        table.add_row(name, *(_cell(key, report[f"{name}_{key}"]) for key in _COLUMNS))
    return table


def _cell(key: str, value: int | float | str) -> str:
    if isinstance(value, str):
        return value[:10]
    if key == "like_share":
        return _percent(value)
    return f"{value:.1f}" if isinstance(value, float) else f"{value:,}"


def _percent(share: int | float | str) -> str:
    return f"{float(share):.1%}"
