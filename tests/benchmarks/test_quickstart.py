"""The published tables of the quickstart are the ones that its kept numbers give."""

from __future__ import annotations

import json

from benchmarks._report import RESULTS_PAGE
from benchmarks.quickstart import README, RESULTS, arms_table, footer, paired_table, short_table

KEPT = json.loads(RESULTS.read_text())
RUNS, DIFFERENCES = KEPT["runs"], KEPT["paired_over_seeds"]


def block(page: str, name: str) -> str:
    return page.split(f"<!-- {name}:begin -->\n", 1)[1].split(f"\n<!-- {name}:end -->", 1)[0]


def test_the_readme_has_the_short_table_of_the_kept_runs() -> None:
    table = short_table(RUNS, DIFFERENCES)
    assert block(README.read_text(), "result") == "\n".join(table)
    ours = next(line for line in table if "**SeLLa-Rec**" in line)
    mean = sum(run["arms"]["sella"]["all"]["uauc"] for run in RUNS.values()) / len(RUNS)
    assert f"| {mean:.4f} |" in ours
    low, high = DIFFERENCES["mf"]["uauc"]
    assert f"({low:+.4f} to {high:+.4f})" in next(line for line in table if "matrix factorization" in line)


def test_the_results_page_has_the_whole_tables_of_the_kept_runs() -> None:
    parts = [arms_table(RUNS), paired_table(DIFFERENCES, RUNS), footer(RUNS, KEPT["source"])]
    assert block(RESULTS_PAGE.read_text(), "quickstart") == "\n\n".join("\n".join(part) for part in parts)
