"""Scoring the rows of a split, each history read once for all its targets.

A few targets are packed behind their history in one row, as in training. Where there are many, the history's keys and
values are computed once and reused: packed, their attention would grow with the square of the row. Either way a target
sees the history and itself only, at the positions it would have alone, so scores equal one-by-one scores.

Shapes: U histories, P tokens of the longest prefix, B rows of targets, T tokens of the longest, N targets.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from sella_rec.data.dataset import Split
from sella_rec.llm.packing import (
    PADDING,
    Packer,
    Progress,
    block_attention_mask,
    group_by_history,
    padded,
    positions,
    token_batches,
)
from sella_rec.llm.prompt import PromptPart
from sella_rec.llm.scorer import YesNoScorer

# With 5 targets a history, packing was a fifth faster on two cores, with 100 reuse was a third faster.
_PACKED_TARGETS = 16
# Tokens of targets in a row behind the cached history: longer rows cost more attention, shorter ones more copies of
# its keys and values.
_TOKENS_A_ROW = 256


@dataclass(frozen=True)
class _Target:
    row: int  # of the split
    part: PromptPart


@dataclass(frozen=True)
class _Group:
    """A history's prefix and the targets asked of it, dealt into rows of like length."""

    prefix: PromptPart
    rows: list[list[_Target]]

    @property
    def length(self) -> int:
        """Tokens of prefix and targets."""
        return len(self.prefix) + sum(len(target.part) for row in self.rows for target in row)


# not inference_mode: a sharded LLM that has scored in it cannot be trained afterwards
@torch.no_grad()
def score_split(
    scorer: YesNoScorer, packer: Packer, split: Split, tokens_per_batch: int, progress: Progress | None = None
) -> np.ndarray:
    """Score every row of a split, float32 [n] logits in the split's order.

    Consecutive rows of a user whose histories are identical share one prefix, which changes no score.
    """
    scorer.eval()
    scores, done = np.zeros(len(split), dtype=np.float32), 0
    groups = group_by_history(split)
    few = [rows for rows in groups if len(rows) <= _PACKED_TARGETS]
    many = [rows for rows in groups if len(rows) > _PACKED_TARGETS]
    parts = (
        _packed(scorer, packer, split, few, tokens_per_batch),
        _reused(scorer, packer, split, many, tokens_per_batch),
    )
    for index, logits in chain(*parts):
        scores[index] = logits.cpu().numpy()
        done += len(index)
        if progress is not None:
            progress(done, len(split))
    return scores


def _packed(
    scorer: YesNoScorer, packer: Packer, split: Split, groups: Sequence[np.ndarray], tokens: int
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Rows of the split and their logits, by batch."""
    # longest first: running out of memory shows at once, and the time left is not underestimated
    for packed in reversed(token_batches(packer.pack(split, groups), tokens)):
        length = padded(max(row.length for row in packed))
        batch: dict[str, Any] = dict(packer.batch(split, packed, length))
        index = batch.pop("index").numpy()
        del batch["labels"]
        yield index, scorer(**{name: tensor.to(scorer.device) for name, tensor in batch.items()})


def _reused(
    scorer: YesNoScorer, packer: Packer, split: Split, groups: Sequence[np.ndarray], tokens: int
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Rows of the split and their logits, by batch."""
    dealt = [group for rows in groups for group in _groups(packer, split, rows, tokens)]
    for batch in _batches(dealt, tokens):
        index = np.array([target.row for group in batch for row in group.rows for target in row])
        yield index, _score_batch(scorer, split, batch)


def _groups(packer: Packer, split: Split, rows: np.ndarray, tokens: int) -> Iterator[_Group]:
    """Groups of at most `tokens` tokens (of one target, if that alone is longer)."""
    prefix = packer.prefix(split.history[rows[0]])
    chunk: list[_Target] = []
    room = tokens - len(prefix)
    for row in rows:
        target = _Target(int(row), packer.target_suffix(int(split.item[row])))
        if chunk and len(target.part) > room:
            yield _Group(prefix, _deal(chunk))
            chunk, room = [], tokens - len(prefix)
        chunk.append(target)
        room -= len(target.part)
    yield _Group(prefix, _deal(chunk))


def _deal(targets: Sequence[_Target]) -> list[list[_Target]]:
    """Rows of about equal length, each target into the shortest row so far, the longest targets first."""
    total = sum(len(target.part) for target in targets)
    rows: list[list[_Target]] = [[] for _ in range(-(-total // _TOKENS_A_ROW))]
    shortest = [(0, n) for n in range(len(rows))]
    for target in sorted(targets, key=lambda target: -len(target.part)):
        length, n = heapq.heappop(shortest)
        rows[n].append(target)
        heapq.heappush(shortest, (length + len(target.part), n))
    return [row for row in rows if row]


def _batches(groups: Sequence[_Group], tokens: int) -> Iterator[list[_Group]]:
    """Groups of like length together, longest first."""
    batch: list[_Group] = []
    for group in sorted(groups, key=lambda group: -group.length):
        if batch and batch[0].length * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _score_batch(scorer: YesNoScorer, split: Split, batch: Sequence[_Group]) -> torch.Tensor:
    """Logits float32 [N], in the order of groups, rows, targets."""
    from transformers import DynamicCache  # late: it takes seconds, and must not come before HF_HUB_OFFLINE is set

    device, cache = scorer.device, DynamicCache()
    asker = np.array([group.rows[0][0].row for group in batch])
    people = {"user": torch.from_numpy(split.user[asker]), "history": torch.from_numpy(split.history[asker])}
    people = {name: tensor.to(device) for name, tensor in people.items()}
    lengths = torch.tensor([len(group.prefix) for group in batch], device=device)
    prefixes = _grids([[group.prefix] for group in batch], [0] * len(batch), [[0]] * len(batch), device)
    own = torch.arange(prefixes["segment"].shape[1], device=device)
    scorer.hidden_states(prefixes | people, (own <= own[:, None])[None, None], cache)

    rows = [row for group in batch for row in group.rows]
    of_row = torch.tensor([n for n, group in enumerate(batch) for _ in group.rows], device=device)
    cache.batch_select_indices(of_row)
    starts = [group.prefix.special_token.count(0) for group in batch for _ in group.rows]
    items = [[int(split.item[target.row]) for target in row] for row in rows]
    targets = _grids([[target.part for target in row] for row in rows], starts, items, device)
    visible = (own < lengths[of_row, None])[:, None, None].expand(-1, 1, targets["segment"].shape[1], -1)
    mask = torch.cat([visible, block_attention_mask(targets["segment"])], dim=-1)
    hidden = scorer.hidden_states(targets | people, mask, cache)

    ends = [np.cumsum([len(target.part) for target in row]) - 1 for row in rows]
    row_of = torch.from_numpy(np.repeat(np.arange(len(rows)), [len(row) for row in rows])).to(device)
    answers = hidden[row_of, torch.from_numpy(np.concatenate(ends)).to(device)]
    asked = {"item": torch.tensor([item for row in items for item in row], device=device)}
    return scorer.logits(answers, people | asked, of_row[row_of])


def _grids(
    rows: Sequence[Sequence[PromptPart]], starts: Sequence[int], items: Sequence[Sequence[int]], device: torch.device
) -> dict[str, torch.Tensor]:
    """Rows of parts, `padded`, as `PackedBatch` has them; a row's parts are its segments from 1 on.

    Args:
        starts: position that every part of a row starts from.
        items: of the parts.
    """
    size = padded(max(sum(map(len, row)) for row in rows))
    grids = {
        name: np.zeros((len(rows), size), dtype=np.int64) for name in ("input_ids", "position_ids", "special_token")
    }
    grids |= {
        "soft_item": np.zeros_like(grids["special_token"]),
        "segment": np.full_like(grids["special_token"], PADDING),
    }
    for r, row in enumerate(rows):
        end = 0
        for n, part in enumerate(row):
            place = (r, slice(end, end := end + len(part)))
            grids["input_ids"][place] = part.ids
            grids["special_token"][place] = part.special_token
            grids["position_ids"][place] = starts[r] + positions(part.special_token)
            grids["soft_item"][place] = items[r][n]
            grids["segment"][place] = n + 1
    return {name: torch.from_numpy(grid).to(device) for name, grid in grids.items()}
