"""Packed rows: one history followed by many targets, each seeing the history and itself only.

Shapes: B rows, L tokens, N targets in the batch, H history length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import torch

from sella_rec.data.dataset import Split
from sella_rec.llm.prompt import PromptBuilder, PromptPart

PADDING = -1
# the label that transformers' Trainer does not count
IGNORED = -100
_LENGTH_STEP = 16
Progress = Callable[[int, int], None]


class PackedBatch(TypedDict):
    """Tensors of a padded batch of packed rows.

    input_ids, position_ids, special_token int64 [B, L]; segment int64 [B, L] (0 history, j the j-th target, -1
    padding); user int64 [B]; history int64 [B, H]; answer_row, answer_position, item, index int64 [N]; soft_item int64
    [B, L], the item of a target's position; labels float32 [N], `IGNORED` in padding rows. `index` is the row in the
    split the batch was made from.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segment: torch.Tensor
    special_token: torch.Tensor
    soft_item: torch.Tensor
    user: torch.Tensor
    history: torch.Tensor
    answer_row: torch.Tensor
    answer_position: torch.Tensor
    item: torch.Tensor
    index: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class PackedRow:
    """One history and the targets asked after it.

    Attributes:
        rows: int64 [n], n at least 1: the targets, as indices into the split, all of one user; the history is that of
            `rows[0]`.
        length: tokens of the history and all targets.
        padding_row: its labels do not count (`IGNORED`); it makes the processes' shares equal.
    """

    rows: np.ndarray
    length: int
    padding_row: bool = False


class Packer:
    """Turns rows of a split into packed rows and padded batches.

    Args:
        prompts: builds the parts of the prompts.
        soft_tokens: put the special tokens of stage 3 into the prompts.
        warm_token: with soft_tokens, also `<Warm_ID>`.
    """

    def __init__(self, prompts: PromptBuilder, soft_tokens: bool = False, warm_token: bool = True):
        self._prompts = prompts
        self._soft_tokens = soft_tokens
        self._warm_token = warm_token

    def pack(self, split: Split, groups: Iterable[np.ndarray]) -> list[PackedRow]:
        """Measure each group of split rows as one packed row."""
        return [PackedRow(rows, self._length(split, rows)) for rows in groups]

    def _length(self, split: Split, rows: np.ndarray) -> int:
        history = len(self._prompts.history(split.history[rows[0]], self._soft_tokens))
        return history + sum(len(self._target(split.item[row])) for row in rows)

    def prefix(self, history: np.ndarray) -> PromptPart:
        """What all targets of a history share: the history, and how every question begins."""
        shared = self._prompts.history(history.tolist(), self._soft_tokens)
        before = self._prompts.target_before
        return PromptPart(shared.ids + before, shared.special_token + [0] * len(before))

    def target_suffix(self, item: int) -> PromptPart:
        """What is left of a target."""
        target, before = self._target(item), len(self._prompts.target_before)
        return PromptPart(target.ids[before:], target.special_token[before:])

    def _target(self, item: int) -> PromptPart:
        return self._prompts.target(int(item), self._soft_tokens, self._warm_token)

    def batch(self, split: Split, packed: Sequence[PackedRow], length: int = 0) -> PackedBatch:
        """Pad packed rows to the longest of them, or to `length` tokens if that is longer."""
        shape = (len(packed), max(length, *(row.length for row in packed)))
        names = ("input_ids", "position_ids", "special_token", "soft_item")
        grids = {name: torch.zeros(shape, dtype=torch.int64) for name in names}
        segment = torch.full(shape, PADDING, dtype=torch.int64)
        answer_row, answer_position = [], []
        for r, row in enumerate(packed):
            parts = [self._prompts.history(split.history[row.rows[0]], self._soft_tokens)]
            parts += [self._target(split.item[i]) for i in row.rows]
            start, before = 0, parts[0].special_token.count(0)
            for s, part in enumerate(parts):
                end = start + len(part)
                grids["input_ids"][r, start:end] = torch.tensor(part.ids)
                grids["special_token"][r, start:end] = torch.tensor(part.special_token)
                grids["position_ids"][r, start:end] = torch.from_numpy(positions(part.special_token)) + (
                    before if s else 0
                )
                segment[r, start:end] = s
                if s:
                    grids["soft_item"][r, start:end] = int(split.item[row.rows[s - 1]])
                    answer_row.append(r)
                    answer_position.append(end - 1)
                start = end
        index = np.concatenate([row.rows for row in packed])
        firsts = np.array([row.rows[0] for row in packed])
        return PackedBatch(
            input_ids=grids["input_ids"],
            position_ids=grids["position_ids"],
            segment=segment,
            special_token=grids["special_token"],
            soft_item=grids["soft_item"],
            user=torch.from_numpy(split.user[firsts]),
            history=torch.from_numpy(split.history[firsts]),
            answer_row=torch.tensor(answer_row),
            answer_position=torch.tensor(answer_position),
            item=torch.from_numpy(split.item[index]),
            index=torch.from_numpy(index),
            labels=_labels(split, packed),
        )


def _labels(split: Split, packed: Sequence[PackedRow]) -> torch.Tensor:
    label = [
        np.full(len(row.rows), IGNORED, np.float32) if row.padding_row else split.label[row.rows] for row in packed
    ]
    return torch.from_numpy(np.concatenate(label))


def positions(special_token: Sequence[int]) -> np.ndarray:
    """Positions int64 [L] of a part's tokens, special ones sharing that of the token before them.

    The tuned LLM then meets every other token where it did in stage 1, and stage 3 starts no worse.
    """
    shared: np.ndarray = np.maximum(np.cumsum(np.equal(special_token, 0)) - 1, 0)
    return shared


def block_attention_mask(segment: torch.Tensor) -> torch.Tensor:
    """Boolean mask [B, 1, L, L], true where attention is allowed: causal, to the history and to one's own target.

    Padding attends to itself, since a row without any allowed key gives NaN in the softmax.
    """
    length = segment.shape[1]
    query, key = segment[:, :, None], segment[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment.device).tril()
    allowed = causal & ((key == 0) | (key == query))
    return allowed[:, None]


def group_by_user(split: Split, targets_per_history: int) -> list[np.ndarray]:
    """Consecutive rows of a user in groups of at most `targets_per_history`, to train on.

    The group is asked with the history of its first row, so it sees nothing of the future.
    """
    return _chunks(np.flatnonzero(np.diff(split.user, prepend=0)), len(split), targets_per_history)


def group_by_history(split: Split) -> list[np.ndarray]:
    """Consecutive rows of a user whose histories are identical: grouping them changes no score."""
    changed = np.ones(len(split), dtype=bool)
    changed[1:] = (np.diff(split.user) != 0) | (np.diff(split.history, axis=0) != 0).any(axis=1)
    return _chunks(np.flatnonzero(changed), len(split), max(1, len(split)))


def _chunks(starts: np.ndarray, total: int, size: int) -> list[np.ndarray]:
    if total == 0:
        return []
    ends = [*starts[1:], total]
    return [
        np.arange(i, min(i + size, end))
        for start, end in zip(starts, ends, strict=True)
        for i in range(start, end, size)
    ]


def padded(length: int) -> int:
    """The length to score a batch at whose longest row has `length` tokens: few shapes rather than every length.

    oneDNN keeps a kernel for each shape that it has met, and a server that meets every length grows with its requests
    (`benchmarks/online.py` watches its memory).
    """
    return -(-length // _LENGTH_STEP) * _LENGTH_STEP


def token_batches(packed: Sequence[PackedRow], tokens: int) -> list[list[PackedRow]]:
    """Batches of rows of like length, each at most `tokens` when padded (one row may be longer)."""
    batches: list[list[PackedRow]] = []
    for row in sorted(packed, key=lambda row: row.length):
        if not batches or padded(row.length) * (len(batches[-1]) + 1) > tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


def training_order(packed: Sequence[PackedRow], batch_size: int, seed: int) -> list[PackedRow]:
    """Rows shuffled, then bucketed by length so that each run of `batch_size` rows pads little; batches shuffled.

    Made before training rather than by a sampler, so that a resumed training sees the very same batches.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(packed))
    window = 16 * batch_size
    batches = []
    for start in range(0, len(order), window):
        bucket = sorted(order[start : start + window], key=lambda i: packed[i].length)
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    # a short batch stays last, else every batch after it would straddle two buckets
    full, short = [b for b in batches if len(b) == batch_size], [b for b in batches if len(b) < batch_size]
    return [packed[i] for b in [*(full[j] for j in random.permutation(len(full))), *short] for i in b]


def pad_to_multiple(packed: Sequence[PackedRow], multiple: int) -> list[PackedRow]:
    """Rows with as many padding rows behind them as make their number a multiple."""
    shortest = min(packed, key=lambda row: row.length)
    return [*packed, *[replace(shortest, padding_row=True)] * (-len(packed) % multiple)]


def sample_labels(groups: list[np.ndarray], max_labels: int | None, seed: int) -> list[np.ndarray]:
    """A random sample of groups with about `max_labels` rows in all (none: every group)."""
    if max_labels is None:
        return groups
    order = np.random.default_rng(seed).permutation(len(groups))
    seen = np.cumsum([len(groups[i]) for i in order])
    return [groups[i] for i in np.sort(order[: int(np.searchsorted(seen, max_labels)) + 1])]
