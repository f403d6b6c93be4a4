"""Packed rows against brute force, and proof that no group sees the future."""

from itertools import accumulate, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sella_rec.llm.packing import (
    IGNORED,
    PackedRow,
    Packer,
    block_attention_mask,
    group_by_history,
    group_by_user,
    pad_to_multiple,
    padded,
    sample_labels,
    token_batches,
    training_order,
)

PADDING = -1
seeds = st.integers(0, 2**16)
sizes = st.integers(1, 5)


def rows_of_lengths(lengths):
    return [PackedRow(np.array([i]), int(length)) for i, length in enumerate(lengths)]


def test_mask_against_brute_force():
    segment = torch.tensor([[0, 0, 0, 1, 1, 2, 3, 3], [0, 1, 2, 2, 2, PADDING, PADDING, PADDING]])
    expected = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    for b in range(2):
        for query in range(8):
            for key in range(query + 1):
                own, asked = segment[b, query], segment[b, key]
                # padding may see anything, as nothing sees it, but must see something
                expected[b, 0, query, key] = asked == 0 or asked == own
    mask = block_attention_mask(segment)
    assert torch.equal(mask, expected)
    assert mask.any(-1).all()
    padding = segment == PADDING
    assert not (mask[:, 0] & padding[:, None, :] & ~padding[:, :, None]).any()


@given(seed=seeds, size=sizes)
@settings(max_examples=50, deadline=None)
def test_groups_are_a_users_consecutive_rows(random_split, seed, size):
    split = random_split(seed=seed)
    for groups, most in ((group_by_user(split, size), size), (group_by_history(split), len(split))):
        assert np.array_equal(np.concatenate(groups), np.arange(len(split)))
        assert all(len(g) <= most and len(set(split.user[g])) == 1 for g in groups)
    per_user = np.bincount(split.user)
    assert len(group_by_user(split, size)) == sum(-(-n // size) for n in per_user)


@given(seed=seeds)
@settings(max_examples=50, deadline=None)
def test_grouped_by_history_where_histories_are_identical(random_split, seed):
    split = random_split(seed=seed)
    groups = group_by_history(split)
    assert all((split.history[group] == split.history[group[0]]).all() for group in groups)
    for group, following in pairwise(groups):
        last, first = group[-1], following[0]
        assert split.user[first] != split.user[last] or (split.history[first] != split.history[last]).any()


@given(seed=seeds, size=sizes)
@settings(max_examples=30, deadline=None)
def test_a_group_never_sees_its_own_or_later_rows(random_split, tokenizer, seed, size):
    from sella_rec.config import PromptConfig
    from sella_rec.llm.prompt import PromptBuilder

    split = random_split(seed=seed)
    # every item its own word, so that the prompt's text tells what was shown
    prompts = PromptBuilder(tokenizer, PromptConfig(), ["", *(f"<{i}>" for i in range(1, 13))])
    packer = Packer(prompts)
    packed = packer.pack(split, group_by_user(split, size))
    batch = packer.batch(split, packed)
    for r, row in enumerate(packed):
        first = row.rows[0]
        past = (split.user == split.user[first]) & (split.timestamp < split.timestamp[first]) & (split.label == 1)
        shown = tokenizer.decode(batch["input_ids"][r][batch["segment"][r] == 0])
        expected = "; ".join(f"<{i}>" for i in split.item[past][-4:])
        assert (f"Liked films: {expected}.\n" if expected else "No liked films yet.\n") in shown


def test_no_groups_from_no_rows(random_split):
    empty = random_split().take(np.zeros(0, dtype=np.int64))
    assert group_by_user(empty, 3) == group_by_history(empty) == []


@pytest.mark.parametrize("special_token", [False, True])
def test_batch_holds_every_target_as_if_asked_alone(random_split, prompts, special_token):
    split = random_split(seed=3)
    packer = Packer(prompts, soft_tokens=special_token)
    packed = packer.pack(split, group_by_user(split, 4))
    batch = packer.batch(split, packed)
    rows, length = batch["input_ids"].shape
    assert (rows, length) == (len(packed), max(row.length for row in packed))
    asked = list(zip(batch["answer_row"], batch["answer_position"], batch["index"], strict=True))
    assert sorted(int(i) for *_, i in asked) == list(range(len(split)))
    for r, position, i in asked:
        segment = batch["segment"][r]
        kept = (segment == 0) | (segment == segment[position])
        history = prompts.history(split.history[packed[r].rows[0]], special_token)
        target = prompts.target(split.item[i], special_token)
        assert batch["input_ids"][r][kept].tolist() == history.ids + target.ids
        assert batch["special_token"][r][kept].tolist() == history.special_token + target.special_token
        # a special token takes no place of its own: it stands where the token before it stands
        places = list(accumulate(int(not mark) for mark in history.special_token + target.special_token))
        assert batch["position_ids"][r][kept].tolist() == [place - 1 for place in places]
        assert position == kept.nonzero().max()
        assert (batch["soft_item"][r][segment == segment[position]] == split.item[i]).all()
        assert batch["user"][r] == split.user[i]
    assert batch["item"].tolist() == split.item[batch["index"]].tolist()
    assert batch["labels"].tolist() == split.label[batch["index"]].tolist()
    assert batch["labels"].dtype == torch.float32
    firsts = [row.rows[0] for row in packed]
    assert np.array_equal(batch["history"].numpy(), split.history[firsts])
    assert ((batch["segment"] != PADDING).sum(1).tolist()) == [row.length for row in packed]


@given(lengths=st.lists(st.integers(1, 120), max_size=40), tokens=st.integers(64, 300))
def test_token_batches_keep_to_the_limit(lengths, tokens):
    packed = rows_of_lengths(lengths)
    batches = token_batches(packed, tokens)
    assert sorted(int(row.rows[0]) for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or padded(max(row.length for row in batch)) * len(batch) <= tokens


@given(lengths=st.lists(st.integers(1, 120), max_size=200), size=st.integers(1, 8), seed=seeds)
@settings(deadline=None)
def test_training_order_is_a_permutation_that_the_seed_fixes(lengths, size, seed):
    packed = rows_of_lengths(lengths)
    order = [int(row.rows[0]) for row in training_order(packed, size, seed)]
    assert sorted(order) == list(range(len(lengths)))
    assert order == [int(row.rows[0]) for row in training_order(packed, size, seed)]


def test_training_order_buckets_lengths_and_differs_by_seed():
    lengths = np.random.default_rng(0).integers(20, 400, 510)
    packed = rows_of_lengths(lengths)

    def padded(rows):
        return sum(max(r.length for r in rows[i : i + 8]) * len(rows[i : i + 8]) for i in range(0, len(rows), 8))

    order = training_order(packed, 8, seed=0)
    assert padded(order) < 1.1 * lengths.sum()
    assert padded(packed) > 1.5 * lengths.sum()
    assert [r.length for r in order] != [r.length for r in training_order(packed, 8, seed=1)]
    # batches do not come sorted by length: training would end on the longest
    means = [np.mean([r.length for r in order[i : i + 8]]) for i in range(0, 504, 8)]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.3


@given(counts=st.lists(sizes, min_size=1, max_size=60), wanted=st.integers(1, 80), seed=seeds)
@settings(deadline=None)
def test_sample_labels_takes_about_as_many_as_asked(counts, wanted, seed):
    ends = np.cumsum(counts)
    groups = [np.arange(end - n, end) for n, end in zip(counts, ends, strict=True)]
    sample = sample_labels(groups, wanted, seed)
    total = sum(len(g) for g in sample)
    assert min(wanted, ends[-1]) <= total < wanted + max(counts)
    starts = [g[0] for g in sample]
    assert starts == sorted(set(starts))
    assert starts == [g[0] for g in sample_labels(groups, wanted, seed)]


def test_sample_labels_without_a_limit_takes_all():
    groups = [np.arange(3), np.arange(3, 5)]
    assert sample_labels(groups, None, 0) is groups


def test_fillers_make_shares_equal_and_their_labels_do_not_count(prompts, random_split):
    split, packer = random_split(seed=1), Packer(prompts)
    packed = packer.pack(split, group_by_user(split, 3))[:5]
    assert pad_to_multiple(packed, 5) == packed
    filled = pad_to_multiple(packed, 4)
    assert [row.padding_row for row in filled] == [False] * 5 + [True] * 3
    assert max(row.length for row in filled) == max(row.length for row in packed)
    labels = packer.batch(split, filled)["labels"]
    counted = sum(len(row.rows) for row in packed)
    assert torch.equal(labels[:counted], packer.batch(split, packed)["labels"])
    assert len(labels) > counted
    assert set(labels[counted:].tolist()) == {IGNORED}
