"""`sella data`: validates a data set and describes it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from rich.console import Console

from components.prepare_data.details import DETAILS_FILE
from components.prepare_data.page import BEGINS, PAGE
from components.prepare_data.step import prepare_data
from pipeline.local.report_text import print_report
from sella_rec.config import Config, DataConfig
from sella_rec.outputs import output_file, output_folder
from sella_rec.tracking.tracker import Tracker

# What an unsigned folder of prepared data holds: those made before folders were signed, and outputs of the step
_TABLES = ("train", "valid", "test", "items", "users", "reference")
_NAMES = {f"{table}.parquet" for table in _TABLES} | {"report.json", "reference.json", "steps.json"}


def describe_data(config: Config, output: Path | None, html: Path | None, as_json: bool, console: Console) -> None:
    """Prepare the data as a run would, print the report, and keep the folder if `output` is given.

    Args:
        html: file to write the report to as a page.
        as_json: print the report and its details as one JSON object instead of text.

    Raises:
        DataError: the data violate the input contract.
        OutputPathError: an output would replace what is not ours, or cannot be written; nothing is changed.
    """
    inputs = local_inputs(config.data)
    with ExitStack() as stack:
        page = stack.enter_context(output_file(html, BEGINS, inputs, "--html") if html else nullcontext())
        kept = output_folder(output, inputs, prepared_names) if output else _temporary()
        folder = stack.enter_context(kept)
        report = prepare_data(config, folder, Tracker())
        details: dict[str, Any] = json.loads((folder / DETAILS_FILE).read_text())
        if page:
            shutil.copyfile(folder / PAGE, page)
    if as_json:
        print(json.dumps({**report, **details}, indent=2, ensure_ascii=False))
        return
    print_report(report, details, console)
    for place, what in ((output, "Prepared data"), (html, "The report as a page")):
        if place:
            console.print(f"\n{what} written to {place}{'/' if place == output else ''}")


@contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "data"


def prepared_names(folder: Path) -> set[str]:
    """The files of prepared data, if the unsigned `folder` holds some: its report says how many rows were read."""
    try:
        report = json.loads((folder / "report.json").read_text())
    except (OSError, ValueError):
        return set()
    return _NAMES if isinstance(report, dict) and "rows_read" in report else set()


def local_inputs(config: DataConfig) -> list[Path]:
    """The files and folders on this machine that the data come from; of a pattern, what it matches."""
    found: list[Path] = []
    for address in (config.interactions, config.items, config.source):
        path = (address or "").removeprefix("file://")
        if path and "::" not in path and "://" not in path:
            found += [Path(path)] if Path(path).exists() else map(Path, LocalFileSystem().glob(path))
    return found
