"""Steps of tune-llm and fuse through the product's own training loop: tokens, labels, and the share of the peak."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.shapes import Row, Scale, operations_a_token, peak_gib, peak_operations, random_llm, synchronize
from benchmarks.gpu.world import World, world
from benchmarks.memory import BACKBONES
from benchmarks.untrained import random_soft_tokens
from sella_rec.config import FuseConfig, LLMTrainingConfig, TuneConfig
from sella_rec.llm.adapter import add_adapter
from sella_rec.llm.backbone import load_backbone
from sella_rec.llm.packing import Packer, group_by_user, sample_labels
from sella_rec.llm.scorer import YesNoScorer, compile_layers
from sella_rec.llm.training import train
from sella_rec.tracking.tracker import Tracker

_ROWS, _TARGETS = 8, 16


class StepTimes(Tracker):
    """When each optimizer step ended, by the clock, the GPU's work included."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def progress(self, done: float, total: float, note: str = "") -> None:
        synchronize()
        self.ends.append(time.perf_counter())


def tune(scale: Scale) -> Iterator[Row]:
    """LoRA r=64 on seven projections of 7B's shape; as it is, computing activations again, compiled, both."""
    shape = "Qwen2-7B"
    with world() as here:
        llm = add_adapter(random_llm(shape, scale), TuneConfig(lora_rank=BACKBONES[shape][1], lora_alpha=16))
        scorer = YesNoScorer(llm, here.prompts.yes_id, here.prompts.no_id)
        for compiled in (False, True):
            if compiled:
                compile_layers(llm)
            for again in (False, True):
                if again:
                    llm.gradient_checkpointing_enable({"use_reentrant": False})
                elif compiled:
                    llm.gradient_checkpointing_disable()
                what = "compiled" * compiled + ", " * (compiled and again) + "gradient_checkpointing" * again
                settings = TuneConfig(rows_per_step=_ROWS, targets_per_history=_TARGETS)
                yield from _measure(f"{shape}, {what or 'plain'}", scorer, Packer(here.prompts), settings, here, scale)


def fuse(scale: Scale) -> Iterator[Row]:
    """The special tokens behind a frozen LLM of 7B's shape, its adapter merged."""
    shape = "Qwen2-7B"
    with world() as here:
        llm = random_llm(shape, scale)
        scorer = YesNoScorer(
            llm, here.prompts.yes_id, here.prompts.no_id, random_soft_tokens(llm, here.config, here.data).to(llm.device)
        )
        packer = Packer(here.prompts, soft_tokens=True)
        for again in (False, True):
            if again:
                llm.gradient_checkpointing_enable({"use_reentrant": False})
            settings = FuseConfig(rows_per_step=_ROWS, targets_per_history=_TARGETS)
            what = "gradient_checkpointing" if again else "plain"
            yield from _measure(f"{shape}, {what}", scorer, packer, settings, here, scale)


def quickstart(scale: Scale) -> Iterator[Row]:
    """The packaged LLM with the settings of `make run`: seconds a step of tune-llm and of fuse."""
    with world() as here:
        config = here.config
        base = random_llm("SmolLM2-135M", scale) if scale.rehearsal else load_backbone(config.backbone)[0]
        llm = add_adapter(base, config.tune)
        answers = here.prompts.yes_id, here.prompts.no_id
        scorer = YesNoScorer(llm, *answers)
        yield from _measure("tune-llm, 135M", scorer, Packer(here.prompts), config.tune, here, scale)
        llm.requires_grad_(False)
        scorer = YesNoScorer(llm, *answers, random_soft_tokens(llm, here.config, here.data).to(llm.device))
        yield from _measure("fuse, 135M", scorer, Packer(here.prompts, soft_tokens=True), config.fuse, here, scale)


def _measure(
    what: str, scorer: YesNoScorer, packer: Packer, settings: LLMTrainingConfig, here: World, scale: Scale
) -> Iterator[Row]:
    labels = scale.steps * settings.rows_per_step * settings.targets_per_history
    settings = settings.model_copy(update={"max_labels": labels, "save_every": 10_000, "warmup_ratio": 0.0})
    groups = sample_labels(group_by_user(here.data.train, settings.targets_per_history), labels, seed=0)
    packed = packer.pack(here.data.train, groups)
    peak_gib()
    times = StepTimes()
    folder = here.folder / f"checkpoints-{time.monotonic_ns()}"
    try:
        train(scorer, packer, here.data.train, settings, folder, times, seed=0)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        yield f"{what}: out of memory", {}
        return
    yield from _figures(what, scorer.llm, times.ends, packed, settings.rows_per_step)


def _figures(what: str, llm: Any, ends: list[float], packed: list[Any], rows_per_step: int) -> Iterator[Row]:
    """Means over the steps after the first third, which compile kernels and fill caches."""
    seconds = float(np.mean(np.diff(ends)[len(ends) // 3 :]))
    length = float(np.mean([row.length for row in packed]))
    labels = rows_per_step * float(np.mean([len(row.rows) for row in packed]))
    figures = {
        "ms a step": seconds * 1e3,
        "tokens/s": rows_per_step * length / seconds,
        "labels/s": labels / seconds,
        "TFLOP/s": operations_a_token(llm, length) * rows_per_step * length / seconds / 1e12,
        "peak GiB": peak_gib(),
        "hours for 1 M labels": 1e6 / labels * seconds / 3600,
        "tokens a row": length,
    }
    peak = peak_operations()
    yield what, figures | ({"% of the peak": figures["TFLOP/s"] * 1e14 / peak} if peak else {})
