"""The papers' table: every arm on MovieLens-1M by their protocol, several seeds, from the pipeline's own steps.

    python -m benchmarks.paper --data FOLDER                        # everything: hours on a CPU, minutes a row on a GPU
    python -m benchmarks.paper --data FOLDER --arms mf text-only sella-lightgcn --seeds 0
    python -m benchmarks.paper --table                              # print what there is, run nothing

A row of results (one arm, one seed) is added to OUT/rows.jsonl as soon as it exists. Steps that arms share are done
once. With --jobs, so many steps are done at once, in an order that serves all rows, and the rows come at the end: a
data-centre GPU has room for a dozen trainings of a small LLM, each of which waits for one core of the CPU.

Whatever was killed continues when the same command is given again: finished steps are found by the settings they
depend on, a training by its checkpoint, also after OUT and FOLDER were copied to another machine. They are not found by
the version of the code, which the table names instead: after a change of the steps' code give another OUT. Published
rows and the scores behind them are a folder in benchmarks/results: a copy of it as OUT is what to add arms or seeds to.
In MLflow, experiment `paper`, the table is a run and each row a run under it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import mlflow
import torch

from benchmarks._report import REPOSITORY, RESULTS_PAGE, replace_block, seeds_drawn
from benchmarks.paper.arms import ARMS
from benchmarks.paper.rows import LAST_STEP, Row, make_row, scored_folder, stages_of
from benchmarks.paper.scores import rows_to_score
from benchmarks.paper.stages import STEPS, Stages, digest, needed
from benchmarks.paper.table import RESAMPLES, draw, write_table
from pipeline.packaged import PACKAGED
from sella_rec.config import Config, ConfigError, load_config
from sella_rec.data.dataset import PreparedData
from sella_rec.data.errors import DataError
from sella_rec.data.version import data_version
from sella_rec.files import atomic_output
from sella_rec.outputs import OutputPathError, check_growing_folder

RESULTS = REPOSITORY / "benchmarks" / "results"
Rows = dict[str, dict[int, Row]]


def main(given: list[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(given)
    try:
        check_growing_folder(options.out, ("request.json", "rows.jsonl"), "--out")
        if not options.table:
            run(options)
        text = table(options.out)
    except (ConfigError, DataError, OutputPathError) as error:
        parser.error(str(error))
    print(text)
    (options.out / "table.md").write_text(text + "\n")
    if options.write:
        publish(options.out, text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="GroupLens' folder or zip of MovieLens-1M, or the "
        "window of it as interactions.parquet and items.parquet; without it, the official download",
    )
    parser.add_argument(
        "--arms",
        nargs="+",
        choices=ARMS,
        default=list(ARMS),
        metavar="ARM",
        help=f"in the order in which to do them, of: {', '.join(ARMS)}; all, if not given",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    parser.add_argument(
        "--out",
        type=Path,
        default=REPOSITORY / "runs" / "paper",
        metavar="FOLDER",
        help="where steps, rows and the table are kept; default: runs/paper",
    )
    parser.add_argument(
        "--config",
        default="movielens-1m",
        metavar="FILE",
        help=f"YAML file, or a packaged one: {', '.join(PACKAGED)}; default: movielens-1m",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        action="extend",
        dest="overrides",
        metavar="FIELD=VALUE",
        help="override settings of all arms, as in tune.max_labels=8000",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="steps to do at once, each on its share of the cores; default: 1",
    )
    parser.add_argument("--table", action="store_true", help="print the table of OUT's rows and run nothing")
    parser.add_argument(
        "--write",
        action="store_true",
        help="put the table into docs/results.md, without its slices, and all of it into benchmarks/results",
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Make the rows that are missing, seed by seed."""
    config = load_config(
        PACKAGED.get(options.config, options.config), [*data_settings(options.data), *options.overrides]
    )
    request = {
        "config": config.model_dump(mode="json"),
        "data_version": data_state(config, options.data),
        "asked": [options.config, *options.overrides],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    with atomic_output(options.out / "request.json") as file:
        file.write_text(json.dumps(request, indent=1))
    mlflow.set_experiment("paper")
    with _tracked({"sella.table": digest(request)}, options.config) as parent:
        if options.jobs > 1:
            do_steps(options)
        for seed in options.seeds:
            for arm in options.arms:
                one_row(arm, seed, options.out, parent.info.run_id)
        mlflow.log_text(table(options.out), "table.md")


def do_steps(options: argparse.Namespace) -> None:
    """Do what is missing behind missing rows, `options.jobs` at once: step by step, each that rows share once."""
    (config, version, _), rows = read_request(options.out), read_rows(options.out)
    wanted: dict[str, list[Stages]] = {name: [] for name in STEPS}
    for seed in options.seeds:
        for arm in (ARMS[name] for name in options.arms if seed not in rows.get(name, {})):
            for step in needed(LAST_STEP[arm.kind]):
                wanted[step].append(stages_of(arm, config, version, options.out, seed))
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    fresh = get_context("spawn")  # CUDA does not survive a fork
    with ProcessPoolExecutor(options.jobs, fresh, torch.set_num_threads, (threads,)) as pool:
        for step, stages in wanted.items():
            once = {each.key(step): each for each in stages}
            list(pool.map(Stages.folder, once.values(), repeat(step)))


def data_settings(folder: Path | None) -> list[str]:
    if folder is None:
        return []
    window = {name: folder / f"{name}.parquet" for name in ("interactions", "items")}
    if all(path.exists() for path in window.values()):
        return [f"data.{name}={path}" for name, path in window.items()]
    return [f"data.source={folder}"]


def data_state(config: Config, folder: Path | None) -> str:
    """What changes when the data do: by content for a folder or zip, so that a copy elsewhere counts as the same."""
    if folder is None:
        return data_version(config.data)
    files = [folder] if folder.is_file() else sorted(path for path in folder.iterdir() if path.is_file())
    return digest(*((file.name, _sha256(file)) for file in files))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def one_row(name: str, seed: int, out: Path, parent: str) -> None:
    """Append the arm's row to `out/rows.jsonl`, unless it is there."""
    arm, (config, version, _) = ARMS[name], read_request(out)
    stages = stages_of(arm, config, version, out, seed)
    key = stages.key(LAST_STEP[arm.kind])
    if seed in read_rows(out).get(name, {}):
        return
    row = make_row(arm, stages, config, seed)
    with _tracked({"sella.row": f"{name} {seed} {key}"}, f"{name}, seed {seed}", parent):
        mlflow.log_params({"arm": name, "seed": seed, **{f"fuse.{field}": value for field, value in arm.fuse}})
        mlflow.log_metrics(_flat(row))
    with (out / "rows.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(f"{name}, seed {seed}: test AUC {row['test']['auc']:.4f}, UAUC {row['test']['uauc']:.4f}", flush=True)


def _tracked(tags: dict[str, str], name: str, parent: str | None = None) -> Any:
    """The MLflow run with these tags, found or made, as a context."""
    (tag, value), *_ = tags.items()
    found = mlflow.search_runs(filter_string=f"tags.`{tag}` = '{value}'", output_format="list")
    if found:
        return mlflow.start_run(run_id=found[0].info.run_id, nested=parent is not None)
    return mlflow.start_run(run_name=name, tags=tags, nested=parent is not None, parent_run_id=parent)


def _flat(row: Row) -> dict[str, float]:
    """The row's numbers under MLflow's names."""
    groups = {"test": row["test"], "valid": row["valid"], **row["slices"]}
    flat = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
    flat["seconds"] = sum(step["seconds"] for step in row["costs"].values())
    flat["peak_rss_mb"] = max(step["peak_rss_mb"] for step in row["costs"].values())
    return {name: float(value) for name, value in flat.items() if value is not None}


def read_request(out: Path) -> tuple[Config, str, list[str]]:
    """Of the last run: configuration, state of the data, and what was asked for: the configuration's name, overrides.

    Raises:
        ConfigError: nothing was run there.
    """
    path = out / "request.json"
    if not path.exists():
        raise ConfigError(f"{path} is missing: nothing was run in {out}; give the --out of a run, or leave --table out")
    request = json.loads(path.read_text())
    return Config.model_validate(request["config"]), request["data_version"], request["asked"]


def read_rows(out: Path) -> Rows:
    """The rows made with the settings of the last run, by arm and seed."""
    (config, version, _), path = read_request(out), out / "rows.jsonl"
    rows: Rows = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        row = json.loads(line)
        arm = ARMS[row["arm"]]
        stages = stages_of(arm, config, version, out, row["seed"])
        if stages.key(LAST_STEP[arm.kind]) == row["key"]:
            rows.setdefault(row["arm"], {})[row["seed"]] = row
    return rows


def table(out: Path, slices: bool = True) -> str:
    """The table of what there is, and where it came from."""
    (config, version, asked), rows = read_request(out), read_rows(out)
    if not rows:
        return "\n\n".join(["No row has been finished with these settings.", _unfinished(out)])
    some, of_arm = next(iter(rows.items()))
    stages = stages_of(ARMS[some], config, version, out, next(iter(of_arm)))
    test = rows_to_score(config, PreparedData(stages.folder("prepare-data")))
    text = write_table(rows, draw(rows, test, out / "stages"), f"sella-{config.collab.fused_model}", slices)
    return "\n\n".join([text, _unfinished(out), _notes(rows, config, asked)])


def publish(out: Path, text: str) -> None:
    """Put the table where readers look: docs/results.md has it without slices, `benchmarks/results` whole, with its
    rows and what they were computed from, the scores of test: an OUT to go on from.
    """
    name = Path(read_request(out)[2][0]).stem
    replace_block("paper", table(out, slices=False), RESULTS_PAGE)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"paper-{name}.md").write_text(text + "\n")
    with atomic_output(RESULTS / f"paper-{name}") as kept:
        kept.mkdir()
        rows = [row for of_arm in read_rows(out).values() for row in of_arm.values()]
        (kept / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for row in rows:
            # an arm without training has the same scores under every seed
            scored = scored_folder(row, kept / "stages")
            shutil.copytree(scored_folder(row, out / "stages"), scored, dirs_exist_ok=True)


def _unfinished(out: Path) -> str:
    begun = sorted(path.stem.rpartition("-")[0] for path in out.glob("stages/*.unfinished"))
    return f"Begun and not finished: {', '.join(begun) or 'nothing'}."


def _notes(rows: Rows, config: Config, asked: list[str]) -> str:
    costs = [step for of_arm in rows.values() for row in of_arm.values() for step in row["costs"].values()]
    commits, machines = (sorted({step[name] for step in costs}) for name in ("commit", "machine"))
    gpu = max(step["peak_gpu_mb"] for step in costs)
    seeds = sorted({seed for of_arm in rows.values() for seed in of_arm})
    command = f"python -m benchmarks.paper --config {' --set '.join(asked)}"
    return (
        "AUC and UAUC on test: mean over seeds (standard deviation where there are several). 95 %: bootstrap over "
        f"users, {RESAMPLES:,} resamples, the mean over seeds on each. Differences are paired: the same users, the "
        "seeds that both arms have; p is two-sided, Holm-corrected over the lines of its column. Valid: what settings "
        "and epochs were chosen by; collaborative models on all rows, the others on those of "
        f"{config.tune.valid_users} users drawn, arms with special tokens {config.fuse.valid_users}. Minutes: all "
        "steps the arm needs, those it shares with others and the scoring of test included; GB: the most memory that "
        f"one of them held{f', on the GPU {gpu / 1024:.1f} at most' if gpu else ''}.\n\n"
        f"`{command}`: {config.backbone.name}; {seeds_drawn(seeds)}. Steps run at {', '.join(commits)} on "
        f"{'; '.join(machines)}."
    )
