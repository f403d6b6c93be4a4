"""What one GPU does, from tuning at 7B's shape to the quickstart, in at most eight minutes on a bare machine.

    python -m benchmarks.gpu [--out benchmarks/results/gpu] [--seconds 480] [--rehearse | --write]

No hub and no network: LLMs of 1.5B and 7B have their family's shape and random weights, which time does not depend on,
made on the GPU; the one of 135M is the packaged one. Ratings and titles are the packaged ones.

Each part is a process with a time limit of its own, most important first, and writes `PART.json` after each figure, so
that what was measured before a limit or an error stays. Started again, it does the parts that have not ended well.
`--rehearse` runs the same parts with tiny LLMs on whatever there is, into OUT-rehearsal; its figures mean nothing.
`--write` puts the table into docs/operations.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks._report import REPOSITORY, machine, provenance, replace_block
from benchmarks.gpu.parts import LIMITS, run_part
from sella_rec.files import atomic_output
from sella_rec.outputs import OutputPathError, check_growing_folder
from sella_rec.runtime.supervision import exit_with_parent

DONE, UNFINISHED = "done", "unfinished"
# a CPU, and nobody waits for it
_REHEARSAL_IS_SLOWER = 10


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "gpu")
    parser.add_argument("--seconds", type=float, default=480, help="no part is begun that could end later")
    parser.add_argument("--parts", nargs="+", choices=LIMITS, default=list(LIMITS), help="default: all, in this order")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--rehearse", action="store_true", help="tiny LLMs, few steps, with or without a GPU")
    either.add_argument("--write", action="store_true", help="replace the table in docs/operations.md")
    parser.add_argument("--only-this-process", choices=LIMITS, help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.only_this_process:
        exit_with_parent()
        measure(arguments.only_this_process, arguments.out, arguments.rehearse)
        return
    if arguments.rehearse:
        # what is done there must not count as measured here
        arguments.out = arguments.out.with_name(f"{arguments.out.name}-rehearsal")
    try:
        check_growing_folder(arguments.out, (f"{part}.json" for part in LIMITS), "--out")
    except OutputPathError as error:
        parser.error(str(error))
    _need_gpu(arguments.rehearse)
    arguments.out.mkdir(parents=True, exist_ok=True)
    slower = _REHEARSAL_IS_SLOWER if arguments.rehearse else 1
    end = time.monotonic() + arguments.seconds * slower
    for part in arguments.parts:
        limit = min(LIMITS[part] * slower, end - time.monotonic())
        if read(arguments.out, part)["state"] == DONE or limit < 10:
            continue
        in_its_own_process(part, arguments.out, limit, arguments.rehearse)
    text = table(arguments.out)
    print(text)
    if arguments.write:
        replace_block("gpu", text, REPOSITORY / "docs" / "operations.md")


def _need_gpu(rehearse: bool) -> None:
    import torch

    if not rehearse and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; --rehearse tries every part without one, on tiny LLMs")


def in_its_own_process(part: str, out: Path, limit: float, rehearse: bool) -> None:
    """Run a part in a process that is killed at its limit; say what became of it in its file."""
    print(f"{part}: at most {limit:.0f} s", flush=True)
    command = [sys.executable, "-m", "benchmarks.gpu", "--only-this-process", part, "--out", str(out)]
    log = out / f"{part}.log"
    try:
        with log.open("w") as stream:
            subprocess.run(
                command + ["--rehearse"] * rehearse,
                cwd=REPOSITORY, stdout=stream, stderr=subprocess.STDOUT, timeout=limit, check=True,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        keep(out, part, error=f"stopped after {limit:.0f} s")
    except subprocess.CalledProcessError:
        last = (log.read_text().strip().splitlines() or ["no output"])[-1]
        keep(out, part, error=f"{last} (see {log.name})")


def measure(part: str, out: Path, rehearse: bool) -> None:
    """A part in this process; its file grows figure by figure, and keeps those of an earlier try that are not made."""
    began = time.perf_counter()
    where = {"machine": machine(), "provenance": provenance("packaged MovieLens", [0]), "rehearsal": rehearse}
    rows = dict(read(out, part)["rows"])
    for what, figures in run_part(part, rehearse):
        rows[what] = figures
        keep(out, part, rows=list(rows.items()), **where)
    keep(out, part, state=DONE, seconds=round(time.perf_counter() - began, 1), **where)


def read(out: Path, part: str) -> dict[str, Any]:
    """What a part's file says; `unfinished` where there is none."""
    file = out / f"{part}.json"
    return json.loads(file.read_text()) if file.exists() else {"state": UNFINISHED, "rows": []}


def keep(out: Path, part: str, **said: object) -> None:
    """Replace a part's file by what it says and this, whole or not at all."""
    text = json.dumps({**read(out, part), "state": UNFINISHED, **said}, indent=2)
    with atomic_output(out / f"{part}.json") as file:
        file.write_text(text + "\n")


def table(out: Path) -> str:
    """Every figure there is, and what is missing, as Markdown."""
    lines, sources = ["| part | what | figures |", "|---|---|---|"], set()
    for part in LIMITS:
        found = read(out, part)
        for what, figures in found["rows"]:
            lines.append(f"| {part} | {what} | {'; '.join(f'{name} {_short(v)}' for name, v in figures.items())} |")
        if found["state"] != DONE:
            lines.append(f"| {part} | *not finished* | {found.get('error', 'not begun')} |")
        if "provenance" in found:
            sources.add(f"{'REHEARSAL, figures mean nothing. ' if found['rehearsal'] else ''}{found['provenance']}")
    return "\n".join([*lines, "", "`python -m benchmarks.gpu`. " + " ".join(sorted(sources))])


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    main()
