"""Candidates a second: 100 candidates behind each history, in the text form and with special tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from benchmarks.gpu.shapes import Row, Scale, peak_gib, random_llm, synchronize
from benchmarks.gpu.world import questions, world
from benchmarks.untrained import random_soft_tokens
from sella_rec.data.dataset import Split
from sella_rec.llm.packing import Packer
from sella_rec.llm.scorer import YesNoScorer
from sella_rec.llm.scoring import score_split

_CANDIDATES, _TOKENS_A_BATCH = 100, 65_536


def score(scale: Scale) -> Iterator[Row]:
    """The three shapes, 1.5B first: that is what the aim is stated for."""
    with world() as here:
        asked = questions(here.data, scale.histories, _CANDIDATES, seed=0)
        for shape in ("Qwen2-1.5B", "SmolLM2-135M", "Qwen2-7B"):
            llm = random_llm(shape, scale)
            answers = here.prompts.yes_id, here.prompts.no_id
            peak_gib()
            yield from _measure(f"{shape}, text", YesNoScorer(llm, *answers), Packer(here.prompts), asked)
            tokens = YesNoScorer(
                llm, *answers, random_soft_tokens(llm, here.config, here.data).to(llm.device).requires_grad_(False)
            )
            yield from _measure(f"{shape}, special tokens", tokens, Packer(here.prompts, soft_tokens=True), asked)
            del llm, tokens


def _measure(what: str, scorer: YesNoScorer, packer: Packer, asked: Split) -> Iterator[Row]:
    one_by_one = [asked.take(np.arange(i, i + _CANDIDATES)) for i in range(0, len(asked), _CANDIDATES)]
    _seconds(scorer, packer, one_by_one[0])
    alone = [_seconds(scorer, packer, split) for split in one_by_one]
    p50, p99 = np.percentile(alone, [50, 99]) * 1e3
    yield (
        what,
        {
            "candidates/s": len(asked) / sum(alone),
            "p50 ms": p50,
            "p99 ms": p99,
            "candidates/s, histories together": len(asked) / _seconds(scorer, packer, asked),
            "peak GiB": peak_gib(),
        },
    )


def _seconds(scorer: YesNoScorer, packer: Packer, split: Split) -> float:
    synchronize()
    began = time.perf_counter()
    score_split(scorer, packer, split, _TOKENS_A_BATCH)
    synchronize()
    return time.perf_counter() - began
