"""Candidates per second: one history's keys and values reused, against one prompt a candidate; real LLM, real ratings.

    python -m benchmarks.serving [--write]

Four ways to score 100 candidates of a user with SeLLa-Rec's prompts (special tokens included), in one run: each
candidate its own prompt in padded batches, with the LM head on the last position; packed behind the history in one row,
as training does; the product's way, keys and values of the history computed once; and as research code does it,
prompts padded to 768 with logits of the whole vocabulary at every position. The last is measured on fewer candidates.
The LLM's adapter and the special tokens are untrained: time does not depend on it. Takes some minutes on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks._report import SERVING_PAGE, provenance, replace_block
from components.prepare_data.step import prepare_data
from pipeline.packaged import PACKAGED
from sella_rec.collab.models import create_model
from sella_rec.config import Config, load_config
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.llm.adapter import add_adapter
from sella_rec.llm.backbone import load_backbone
from sella_rec.llm.packing import Packer, block_attention_mask
from sella_rec.llm.projection import Projection
from sella_rec.llm.prompt import PromptBuilder
from sella_rec.llm.scorer import YesNoScorer
from sella_rec.llm.scoring import score_split
from sella_rec.llm.soft_tokens import SoftTokens
from sella_rec.tracking.tracker import Tracker

CANDIDATES, USERS, REPEATS = 100, 2, 2
PROMPTS_A_BATCH, PACKED_TARGETS = 8, 32
RESEARCH_LENGTH, RESEARCH_CANDIDATES = 768, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/serving.md")
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float32"), default="auto")
    arguments = parser.parse_args()
    config = load_config(PACKAGED["quickstart"], [f"backbone.dtype={arguments.dtype}"])
    with tempfile.TemporaryDirectory() as folder:
        prepare_data(config, Path(folder) / "data", Tracker())
        data = PreparedData(Path(folder) / "data")
        scorer, packer = build(config, data)
        asked = questions(data, config.seed)
    text = "\n".join([*table(measure(scorer, packer, asked, config.evaluate.tokens_per_batch)), "", ""])
    dtype = str(scorer.llm.dtype).removeprefix("torch.")
    source = provenance(f"embedded MovieLens, SmolLM2-135M-Instruct in {dtype}", [config.seed])
    text += f"`python -m benchmarks.serving`: {USERS} users, best of {REPEATS}. {source}"
    print(text)
    if arguments.write:
        replace_block("serving", text, SERVING_PAGE)


def build(config: Config, data: PreparedData) -> tuple[YesNoScorer, Packer]:
    """The scorer of stage 3 before any training."""
    torch.manual_seed(config.seed)
    llm, tokenizer = load_backbone(config.backbone)
    prompts, hidden = PromptBuilder(tokenizer, config.prompt, data.titles), llm.config.hidden_size
    tables = create_model("mf", config.collab, data).tables(data.train)
    projection = Projection(config.collab.dim, config.align.hidden, hidden)
    semantics = torch.randn(data.n_items + 1, hidden)
    norm = llm.get_input_embeddings().weight.float().norm(dim=1).mean().item()
    soft_tokens = SoftTokens(tables, semantics, projection, norm, config.fuse.gain)
    soft_tokens.set_residual(1.0, 1.0, 0.0)
    llm = add_adapter(llm, config.tune).requires_grad_(False)
    return YesNoScorer(llm, prompts.yes_id, prompts.no_id, soft_tokens).eval(), Packer(prompts, soft_tokens=True)


def questions(data: PreparedData, seed: int) -> list[Split]:
    """Random test users with the history of their first test row, each with random items."""
    draw = np.random.default_rng(seed)
    rows = draw.permutation(np.flatnonzero(np.diff(data.test.user, prepend=0)))[:USERS]
    asked = []
    for row in rows:
        split = data.test.take(np.full(CANDIDATES, row))
        split.item[:] = draw.choice(data.n_items, CANDIDATES, replace=False) + 1
        asked.append(split)
    return asked


def measure(
    scorer: YesNoScorer, packer: Packer, asked: list[Split], tokens_per_batch: int
) -> dict[str, tuple[float, float]]:
    """Candidates per second, and the largest difference of a logit from the first way's, by way of scoring."""
    ways: dict[str, Callable[[Split], np.ndarray]] = {
        "one prompt a candidate": lambda split: in_rows(scorer, packer, split, 1, PROMPTS_A_BATCH),
        "packed in one row": lambda split: in_rows(scorer, packer, split, PACKED_TARGETS, 1),
        "history reused": lambda split: score_split(scorer, packer, split, tokens_per_batch),
        "as research code": lambda split: as_research_code(scorer, packer, split),
    }
    seconds, scores = dict.fromkeys(ways, np.inf), {}
    for _ in range(REPEATS):
        for name, score in ways.items():
            given = [split.take(np.arange(RESEARCH_CANDIDATES)) for split in asked] if "research" in name else asked
            started = time.perf_counter()
            scores[name] = [score(split) for split in given]
            seconds[name] = min(seconds[name], (time.perf_counter() - started) / sum(map(len, given)))
    expected = scores["one prompt a candidate"]
    off = {
        name: max(float(np.abs(e[: len(f)] - f).max()) for e, f in zip(expected, found, strict=True))
        for name, found in scores.items()
    }
    return {name: (1 / each, off[name]) for name, each in seconds.items()}


@torch.inference_mode()
def in_rows(scorer: YesNoScorer, packer: Packer, split: Split, targets: int, rows: int) -> np.ndarray:
    """Padded batches of `rows` rows, each the history and `targets` of its candidates."""
    groups = [np.arange(start, min(start + targets, len(split))) for start in range(0, len(split), targets)]
    packed, scores = packer.pack(split, groups), np.zeros(len(split), dtype=np.float32)
    for start in range(0, len(packed), rows):
        batch = dict(packer.batch(split, packed[start : start + rows]))
        index = batch.pop("index").numpy()
        del batch["labels"]
        scores[index] = scorer(**batch).numpy()
    return scores


@torch.inference_mode()
def as_research_code(scorer: YesNoScorer, packer: Packer, split: Split) -> np.ndarray:
    """Padded to a fixed length, the whole LM head at every position, the answer's two logits taken from it."""
    groups, scores = [np.array([row]) for row in range(len(split))], np.zeros(len(split), dtype=np.float32)
    for start in range(0, len(groups), PROMPTS_A_BATCH // 2):
        batch = packer.batch(split, packer.pack(split, groups[start : start + PROMPTS_A_BATCH // 2]))
        padding = RESEARCH_LENGTH - batch["input_ids"].shape[1]
        grids = {name: torch.nn.functional.pad(batch[name], (0, padding)) for name in ("input_ids", "position_ids")}
        grids |= {name: torch.nn.functional.pad(batch[name], (0, padding)) for name in ("special_token", "soft_item")}
        segment = torch.nn.functional.pad(batch["segment"], (0, padding), value=-1)
        hidden = scorer.hidden_states(dict(batch) | grids, block_attention_mask(segment))
        logits = scorer.llm.get_output_embeddings()(hidden.to(scorer.llm.dtype)).float()
        answers = logits[batch["answer_row"], batch["answer_position"]]
        yes, no = scorer._answer_ids
        assert scorer.soft_tokens is not None
        combined = scorer.soft_tokens.combine(answers[:, yes] - answers[:, no], dict(batch), batch["answer_row"])
        scores[batch["index"].numpy()] = combined.numpy()
    return scores


def table(found: dict[str, tuple[float, float]]) -> list[str]:
    plain = found["one prompt a candidate"][0]
    lines = ["| scoring 100 candidates a user | candidates per second | times | logits differ by at most |"]
    lines.append("|---|---:|---:|---:|")
    return lines + [f"| {name} | {rate:.1f} | {rate / plain:.1f} | {off:.2g} |" for name, (rate, off) in found.items()]


if __name__ == "__main__":
    main()
