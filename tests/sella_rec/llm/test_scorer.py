"""Packed scores against one-by-one scores of the plain Hugging Face model: causal mask, whole LM head, no packing."""

import copy

import numpy as np
import pytest
import torch

from sella_rec.config import TuneConfig
from sella_rec.llm import scoring
from sella_rec.llm.adapter import add_adapter
from sella_rec.llm.packing import Packer
from sella_rec.llm.prompt import ITEM_ID, USER_ID, WARM_ID
from sella_rec.llm.scorer import YesNoScorer
from sella_rec.llm.scoring import score_split


@pytest.fixture(autouse=True, params=["packed", "reused"])
def way(request, monkeypatch):
    """All rows one way or the other; few tokens a row, so that a history has several rows of targets."""
    monkeypatch.setattr(scoring, "_PACKED_TARGETS", 10**6 if request.param == "packed" else 0)
    monkeypatch.setattr(scoring, "_TOKENS_A_ROW", 40)


def alone(llm, prompts, inputs):
    """Logit of Yes minus logit of No at the last token, from the model's own forward."""
    with torch.no_grad():
        last = llm(**inputs, use_cache=False).logits[0, -1]
    return float(last[prompts.yes_id] - last[prompts.no_id])


def text_alone(llm, prompts, split):
    rows = zip(split.history, split.item, strict=True)
    ids = [prompts.history(history).ids + prompts.target(item).ids for history, item in rows]
    return np.array([alone(llm, prompts, {"input_ids": torch.tensor([i])}) for i in ids])


def stage_3_alone(llm, prompts, split, by_hand, residual, warm_token=True):
    scores = []
    for user, item, history in zip(split.user, split.item, split.history, strict=True):
        pieces = prompts.history(history, True), prompts.target(item, True, warm_token)
        ids, special_token = (
            [token for piece in pieces for token in getattr(piece, name)] for name in ("ids", "special_token")
        )
        embeddings = llm.get_input_embeddings()(torch.tensor(ids)).clone()
        replaced = {USER_ID: by_hand.user_token(user, history), ITEM_ID: by_hand.item_token(item)}
        replaced[WARM_ID] = by_hand.warm_token(item)
        for place, mark in enumerate(special_token):
            if mark:
                embeddings[place] = replaced[mark].float()
        # special tokens share the position of the token before them
        positions = torch.tensor([0 if mark else 1 for mark in special_token]).cumsum(0) - 1
        # without a mask, transformers would take repeated positions for the start of another sequence
        inputs = {"inputs_embeds": embeddings[None], "position_ids": positions[None]}
        logit = alone(llm, prompts, inputs | {"attention_mask": torch.ones(1, len(ids))})
        scores.append(by_hand.combine(logit, user, item, history) if residual else logit)
    return np.array(scores)


def share_histories(split, every=3):
    """Runs of `every` rows with the history of the first of them, so that there is something to pack."""
    first = np.arange(len(split)) // every * every
    first = np.where(split.user[first] == split.user, first, np.arange(len(split)))
    return type(split)(**{**vars(split), "history": split.history[first]})


@pytest.fixture
def split(random_split):
    return share_histories(random_split(rows=8, seed=5))


def assert_same_scores(found, expected, within=1e-4):
    assert expected.std() > 0.3, "the comparison says nothing where all scores are alike"
    np.testing.assert_allclose(found, expected, atol=within, rtol=0)


def test_packed_scores_equal_one_by_one_scores(lively_llm, prompts, split):
    scorer = YesNoScorer(lively_llm, prompts.yes_id, prompts.no_id)
    found = score_split(scorer, Packer(prompts), split, 2048)
    assert found.dtype == np.float32
    assert_same_scores(found, text_alone(lively_llm, prompts, split))


def test_packed_scores_with_an_adapter_equal_the_merged_models(lively_llm, prompts, split):
    plain = text_alone(lively_llm, prompts, split)
    torch.manual_seed(0)
    tuned = add_adapter(copy.deepcopy(lively_llm), TuneConfig(lora_rank=4))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    found = score_split(YesNoScorer(tuned, prompts.yes_id, prompts.no_id), Packer(prompts), split, 2048)
    assert_same_scores(found, text_alone(tuned.merge_and_unload(), prompts, split))
    assert np.abs(found - plain).max() > 0.3


@pytest.mark.parametrize("warm_token", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_packed_stage_3_scores_equal_one_by_one_scores(
    lively_llm, prompts, split, soft_tokens, by_hand, residual, warm_token
):
    if not residual:
        soft_tokens.set_residual(1.0, 0.0, 0.0)
    scorer = YesNoScorer(lively_llm, prompts.yes_id, prompts.no_id, soft_tokens)
    found = score_split(scorer, Packer(prompts, soft_tokens=True, warm_token=warm_token), split, 2048)
    assert_same_scores(found, stage_3_alone(lively_llm, prompts, split, by_hand, residual, warm_token))


def test_padding_and_batch_composition_change_nothing(lively_llm, prompts, split, soft_tokens):
    scorer = YesNoScorer(lively_llm, prompts.yes_id, prompts.no_id, soft_tokens)
    packer = Packer(prompts, soft_tokens=True)
    expected = score_split(scorer, packer, split, 2048)
    for tokens in (64, 500, 100_000):
        np.testing.assert_allclose(score_split(scorer, packer, split, tokens), expected, atol=1e-4, rtol=0)
    backwards = np.arange(len(split))[::-1]
    np.testing.assert_allclose(
        score_split(scorer, packer, split.take(backwards), 700)[backwards], expected, atol=1e-4, rtol=0
    )


def test_more_targets_than_one_packed_row_takes(lively_llm, prompts, random_split):
    split = random_split(users=1, rows=2, seed=1).take(np.zeros(70, dtype=np.int64))
    split.item[:] = np.arange(70) % 12 + 1
    scorer = YesNoScorer(lively_llm, prompts.yes_id, prompts.no_id)
    found = score_split(scorer, Packer(prompts), split, 2048)
    assert_same_scores(found[:12], text_alone(lively_llm, prompts, split.take(np.arange(12))))
    np.testing.assert_allclose(found[12:], found[:-12], atol=1e-4)


def test_the_lm_head_is_never_applied(lively_llm, prompts, split):
    def refuse(*_):
        raise AssertionError("the LM head was applied to hidden states")

    scorer = YesNoScorer(lively_llm, prompts.yes_id, prompts.no_id)
    lively_llm.lm_head.register_forward_pre_hook(refuse)
    assert len(score_split(scorer, Packer(prompts), split, 2048)) == len(split)
    with pytest.raises(AssertionError, match="LM head"):
        lively_llm(input_ids=torch.tensor([[1]]))


def test_scoring_is_without_dropout_and_reports_progress(lively_llm, prompts, split):
    tuned = add_adapter(lively_llm, TuneConfig(lora_rank=4, lora_dropout=0.5))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.1)
    scorer, seen = YesNoScorer(tuned, prompts.yes_id, prompts.no_id).train(), []
    first = score_split(scorer, Packer(prompts), split, 300, lambda *done: seen.append(done))
    assert np.array_equal(first, score_split(scorer, Packer(prompts), split, 300))
    assert [total for _, total in seen] == [len(split)] * len(seen)
    assert sorted(seen) == seen
    assert seen[-1][0] == len(split)


def test_the_llm_meets_few_lengths(lively_llm, prompts, random_split):
    # every new one costs a server memory that it does not get back
    scorer, lengths = YesNoScorer(lively_llm, prompts.yes_id, prompts.no_id), []
    lively_llm.get_input_embeddings().register_forward_hook(lambda *call: lengths.append(call[2].shape[1]))
    for seed in range(8):
        score_split(scorer, Packer(prompts), random_split(users=1, rows=5, seed=seed), 2048)
    assert len(lengths) >= 8
    assert not [length for length in lengths if length % 16]


def test_no_rows_no_scores(lively_llm, prompts, split):
    empty = split.take(np.zeros(0, dtype=np.int64))
    scorer = YesNoScorer(lively_llm, prompts.yes_id, prompts.no_id)
    assert score_split(scorer, Packer(prompts), empty, 2048).shape == (0,)


def test_bfloat16_scores_are_near(tiny_backbone, prompts, split):
    from transformers import AutoModelForCausalLM

    llm = AutoModelForCausalLM.from_pretrained(tiny_backbone, dtype=torch.float32).eval()
    for name, parameter in llm.named_parameters():
        if "norm" not in name:
            parameter.data.mul_(4)
    expected = text_alone(llm, prompts, split)
    found = score_split(YesNoScorer(llm.bfloat16(), prompts.yes_id, prompts.no_id), Packer(prompts), split, 2048)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.3 * expected.std())
