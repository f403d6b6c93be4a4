"""The data report on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from components.prepare_data.report import DROPPED, Report
from sella_rec.data.dataset import SPLITS

_COLUMNS = {
    "rows": "rows",
    "users": "users",
    "items": "items",
    "like_share": "likes",
    "warm_share": "warm",
    "cold_share": "cold",
    "history_mean": "history",
    "from": "from",
    "until": "until",
}
_LEVELS = "▁▂▃▄▅▆▇█"
_BAR = 30


def print_report(report: Report, details: dict[str, Any], console: Console) -> None:
    """What was read, what was dropped and why, what is left, when it was, and what rules changed."""
    console.print(f"interactions  {report['interactions']}\nitems         {report['items']}")
    for file, notes in details["notes"].items():
        console.print(f"  {file}: {'; '.join(notes)}")
    console.print(
        f"\n{report['rows']:,} interactions of {report['users']:,} users with {report['items_with_rows']:,} of "
        f"{report['items_kept']:,} items; {_percent(report['like_share'])} are likes"
    )
    _print_dropped(report, details, console)
    console.print(
        f"titles: {_percent(report['items_without_title_share'])} of the items have none; "
        f"{report['title_characters_mean']:.0f} characters on average, 95 % have at most "
        f"{report['title_characters_p95']}, the longest has {report['title_characters_max']}"
    )
    _print_changes(details["changes"], console)
    console.print(_time(report, details["timeline"]))
    console.print(_splits(report))
    console.print(
        f"split: {report['split']}; warm: user and item both in train; history: mean number of liked items before a row"
    )
    _print_ratings(report, details["ratings"], console)
    _print_widest(details, console)


def _print_dropped(report: Report, details: dict[str, Any], console: Console) -> None:
    for kind, left in (("rows", "rows"), ("items", "items_kept")):
        rules = [rule for rule in DROPPED if rule.startswith(kind) and report[rule]]
        what = "interactions" if kind == "rows" else "rows of items"
        console.print(f"{report[f'{kind}_read']:,} {what} read" + (", dropped:" if rules else ", none dropped"))
        for rule in rules:
            words, setting = DROPPED[rule]
            share = _percent(float(report[rule]) / float(report[f"{kind}_read"]))
            console.print(f"  {report[rule]:>12,}  {share:>6}  {words}{f' ({setting})' if setting else ''}")
        if rules:
            console.print(f"  {report[left]:>12,}  {'':>6}  kept")
    if details["repeated_rows"]:
        console.print(f"{details['repeated_rows']:,} rows repeat a user and an item (data.duplicates: all keeps them)")


def _print_changes(changes: list[dict[str, Any]], console: Console) -> None:
    for each in changes:
        shown = ", ".join(f"{was!r} -> {'missing' if now is None else repr(now)}" for was, now in each["examples"])
        console.print(f"changed {each['field']}: {each['rule']}, {each['rows']:,} rows ({shown})")


def _time(report: Report, timeline: list[dict[str, Any]]) -> str:
    """Rows over time as one line of bars; a bin that has a row is never shown as empty."""
    rows = [sum(each[name] for name in SPLITS) for each in timeline]
    most = max(rows)
    line = "".join(_LEVELS[max(0, -(-count * len(_LEVELS) // most) - 1)] if count else " " for count in rows)
    first, last = (choose(str(report[f"{name}_{end}"])[:10] for name in SPLITS) for choose, end in _ENDS)
    return f"\ntime: {first} {line} {last}, most rows in one of {len(rows)} parts: {most:,}"


_ENDS = ((min, "from"), (max, "until"))


def _splits(report: Report) -> Table:
    table = Table("split")
    for heading in _COLUMNS.values():
        table.add_column(heading, justify="right")
    for name in SPLITS:
        table.add_row(name, *(_cell(key, report[f"{name}_{key}"]) for key in _COLUMNS))
    return table


def _print_ratings(report: Report, ratings: list[dict[str, Any]], console: Console) -> None:
    console.print(f"\n{report['target']}s as read:")
    most = max(each["rows"] for each in ratings)
    for each in ratings:
        value = f"{each['value']:g}" if isinstance(each["value"], float) else str(each["value"])
        bar = "█" * max(1, round(_BAR * each["rows"] / most))
        console.print(f"  {value:>8}  {each['rows']:>12,}  {bar}")


def _print_widest(details: dict[str, Any], console: Console) -> None:
    table = Table("item_id", "title", "rows", "likes", title="Items with most rows", title_justify="left")
    for each in details["widest_items"]:
        table.add_row(str(each["item_id"]), each["title"][:60], f"{each['rows']:,}", _percent(each["like_share"]))
    console.print(table)
    users = ", ".join(f"{each['user_id']} ({each['rows']:,})" for each in details["widest_users"])
    console.print(f"users with most rows: {users}")


def _cell(key: str, value: int | float | str) -> str:
    if isinstance(value, str):
        return value[:10]
    if key.endswith("_share"):
        return _percent(value)
    return f"{value:.1f}" if isinstance(value, float) else f"{value:,}"


def _percent(share: int | float | str) -> str:
    return f"{float(share):.1%}"
