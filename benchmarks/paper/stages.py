"""The pipeline's steps and the scoring of test: each done once, and kept on disk under a key of what it depends on."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks._report import commit, machine
from benchmarks.paper.scores import (
    score_aligned,
    score_collab,
    score_fused,
    score_item_mean,
    score_late,
    score_residual,
    score_text,
)
from components.align_collab.step import align_collab
from components.distill_items.step import distill_items
from components.fuse.step import FuseInputs, fuse
from components.prepare_data.step import prepare_data
from components.train_collab.step import train_collab
from components.tune_llm.step import tune_llm
from sella_rec.config import Config
from sella_rec.files import atomic_output
from sella_rec.runtime.supervision import peak_rss_mb
from sella_rec.tracking.tracker import Tracker

_EVERY_SECONDS = 30


@dataclass(frozen=True)
class _Reads:
    """What a step's result depends on, beside the version of the code."""

    sections: tuple[str, ...]
    steps: tuple[str, ...]


_LLM = ("seed", "backbone", "prompt", "evaluate")
_READS = {
    "prepare-data": _Reads(("data",), ()),
    "train-collab": _Reads(("seed", "collab"), ("prepare-data",)),
    "tune-llm": _Reads((*_LLM, "tune"), ("prepare-data",)),
    "distill-items": _Reads(("backbone", "prompt", "distill"), ("tune-llm",)),
    "align-collab": _Reads(("seed", "collab", "align"), ("train-collab", "distill-items")),
    "fuse": _Reads((*_LLM, "collab", "align", "fuse"), ("align-collab",)),
    "score-item-mean": _Reads(("evaluate",), ("prepare-data",)),
    "score-collab": _Reads(("collab", "evaluate"), ("train-collab",)),
    "score-text": _Reads(("evaluate",), ("tune-llm",)),
    "score-late": _Reads((), ("score-text", "score-collab")),
    "score-aligned": _Reads(("evaluate",), ("align-collab",)),
    "score-fused": _Reads(("evaluate",), ("fuse",)),
    "score-residual": _Reads((), ("score-fused",)),
}
# Each after those that it builds on.
STEPS = tuple(_READS)
# Settings that change nothing in what these steps make.
_WITHOUT_EFFECT = {
    # the state of the data stands for where they are
    "prepare-data": {"data": {"interactions", "items", "source"}},
    "train-collab": {"collab": {"fused_model"}},
    "*": {"evaluate": {"tokens_per_batch", "bootstrap_samples", "examples"}},
}


class Stages:
    """Folders of finished steps for one configuration; asking for one does what is missing.

    Args:
        config: the whole configuration, the seed included.
        data_version: state of the input files.
        root: where the steps' folders are; a step killed half-way continues from its checkpoint there.
        name: who asks, for the lines of progress.
    """

    def __init__(self, config: Config, data_version: str, root: Path, name: str):
        self._config = config
        self._data_version = data_version
        self._root = root
        self._name = name

    def key(self, step: str) -> str:
        """16 hexadecimal digits: the settings that the step reads and the keys of the steps before it."""
        # what is none is left out: a setting that comes later, and is none until asked for, leaves all as it was
        tree, reads = self._config.model_dump(mode="json", exclude_none=True), _READS[step]
        ignored = _WITHOUT_EFFECT["*"] | _WITHOUT_EFFECT.get(step, {})
        settings = {name: _without(tree[name], ignored.get(name, set())) for name in (*reads.sections, "deterministic")}
        before = [self.key(name) for name in reads.steps] or [self._data_version]
        return digest(step, settings, before)

    def folder(self, step: str) -> Path:
        """The finished step's folder, made now if it is missing, with `stage.json` (see `costs`)."""
        final = self._root / f"{step}-{self.key(step)}"
        if not final.exists():
            # first those it builds on: their time is not its own
            before = {name: self.folder(name) for name in needed(step) if name != step}
            self._do(step, before, final)
        return final / "output"

    def costs(self, step: str) -> dict[str, Any]:
        """`stage.json` of a step and of all that it builds on, by step: seconds, peak_rss_mb, peak_gpu_mb, commit and
        machine.
        """
        return {
            name: json.loads((self._root / f"{name}-{self.key(name)}" / "stage.json").read_text())
            for name in needed(step)
        }

    def _do(self, step: str, before: Mapping[str, Path], final: Path) -> None:
        unfinished = final.with_suffix(".unfinished")
        unfinished.mkdir(parents=True, exist_ok=True)
        tracker = Progress(f"{self._name}: {step}", unfinished / "elapsed.json")
        reset_peak_memory()
        checkpoints = unfinished / "checkpoints"
        _run(step, self._config, before, unfinished / "output", checkpoints, tracker)
        shutil.rmtree(checkpoints, ignore_errors=True)
        costs = {
            "seconds": round(tracker.elapsed(), 1),
            "peak_rss_mb": peak_rss_mb(),
            "peak_gpu_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1),
            "commit": commit(),
            "machine": machine(),
        }
        with atomic_output(unfinished / "stage.json") as file:
            file.write_text(json.dumps(costs))
        unfinished.rename(final)


def _run(step: str, config: Config, at: Mapping[str, Path], out: Path, checkpoints: Path, tracker: Tracker) -> None:
    """The step itself; `at` has the folders of all steps it builds on."""
    match step:
        case "prepare-data":
            prepare_data(config, out, tracker)
        case "train-collab":
            train_collab(config, at["prepare-data"], out, tracker)
        case "tune-llm":
            tune_llm(config, at["prepare-data"], out, checkpoints, tracker)
        case "distill-items":
            distill_items(config, at["prepare-data"], at["tune-llm"], out, tracker)
        case "align-collab":
            align_collab(config, at["prepare-data"], at["train-collab"], at["distill-items"], out, tracker)
        case "fuse":
            fuse(config, _fuse_inputs(at), out, checkpoints, tracker)
        case "score-item-mean":
            score_item_mean(config, at["prepare-data"], out)
        case "score-collab":
            score_collab(config, at["prepare-data"], at["train-collab"], out)
        case "score-text":
            score_text(config, at["prepare-data"], at["tune-llm"], out, tracker)
        case "score-late":
            score_late(config, at["prepare-data"], at, out)
        case "score-aligned":
            score_aligned(config, at["prepare-data"], at["align-collab"], out)
        case "score-fused":
            score_fused(config, at["prepare-data"], at["fuse"], out, tracker)
        case "score-residual":
            score_residual(config, at["prepare-data"], at, out)


def _fuse_inputs(at: Mapping[str, Path]) -> FuseInputs:
    return FuseInputs(
        dataset=at["prepare-data"],
        collab=at["train-collab"],
        adapter=at["tune-llm"],
        semantics=at["distill-items"],
        aligned=at["align-collab"],
    )


def needed(step: str) -> list[str]:
    """The step and all that it builds on, in an order in which they can be done."""
    found: list[str] = []
    for name in _READS[step].steps:
        found += [earlier for earlier in needed(name) if earlier not in found]
    return [*found, step]


def digest(*parts: object) -> str:
    """16 hexadecimal digits of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _without(section: Any, fields: set[str]) -> Any:
    return {k: v for k, v in section.items() if k not in fields} if isinstance(section, dict) else section


class Progress(Tracker):
    """Prints how far a step is, a line every half minute, and counts its time over all attempts.

    Args:
        name: what the lines begin with.
        path: keeps the seconds so far, so that a killed attempt's are not forgotten.
    """

    def __init__(self, name: str, path: Path):
        self._name, self._path = name, path
        self._before = float(json.loads(path.read_text())) if path.exists() else 0.0
        self._started = self._said = time.monotonic()
        print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)

    def elapsed(self) -> float:
        """Seconds so far."""
        return self._before + time.monotonic() - self._started

    def progress(self, done: float, total: float, note: str = "") -> None:
        if time.monotonic() - self._said < _EVERY_SECONDS:
            return
        self._said = time.monotonic()
        with atomic_output(self._path) as file:
            file.write_text(json.dumps(self.elapsed()))
        line = f"{time.strftime('%H:%M:%S')} {self._name}: {note} {done:g}/{total:g}, {self.elapsed() / 60:.0f} min"
        print(line, file=sys.stderr, flush=True)


def reset_peak_memory() -> None:
    """Let the peaks count from here on; where the system cannot do that for RAM, since the process began."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    linux = Path("/proc/self/clear_refs")
    if linux.exists():
        linux.write_text("5")
