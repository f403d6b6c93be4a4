"""The special tokens against stage 3 written out by hand; what is trained, and what an unseen user or item gets."""

import numpy as np
import pytest
import torch

from sella_rec.config import TuneConfig
from sella_rec.llm.adapter import add_adapter
from sella_rec.llm.packing import Packer, group_by_user
from sella_rec.llm.projection import Projection
from sella_rec.llm.prompt import ITEM_ID, USER_ID, WARM_ID, PromptBuilder
from sella_rec.llm.scorer import YesNoScorer
from sella_rec.llm.scoring import score_split
from sella_rec.llm.soft_tokens import SoftTokens, mean_and_scale, standardize

TRAINED = {
    "soft_tokens.user_vectors",
    "soft_tokens.item_vectors",
    "soft_tokens.gain",
    *(f"soft_tokens.projection.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")),
    "soft_tokens.warm_projection.weight",
    "soft_tokens.warm_projection.bias",
}


@pytest.fixture
def split(random_split):
    return random_split(rows=8, seed=5)


@pytest.fixture
def batch(prompts, split):
    packer = Packer(prompts, soft_tokens=True)
    return packer.batch(split, packer.pack(split, group_by_user(split, 3)))


def fresh(soft_tokens, gain=0.3):
    """Stage 3 as fuse starts it."""
    torch.manual_seed(0)
    dim, hidden = soft_tokens.item_vectors.shape[1], soft_tokens.semantics.shape[1]
    return SoftTokens(soft_tokens.tables, soft_tokens.semantics, Projection(dim, 16, hidden), 2.0, gain)


def test_exactly_the_three_positions_are_replaced_by_the_projections(lively_llm, batch, soft_tokens, by_hand):
    embeddings = lively_llm.get_input_embeddings()(batch["input_ids"])
    before = embeddings.clone()
    placed = soft_tokens(embeddings, batch)
    special_token, checked = batch["special_token"], {USER_ID: 0, ITEM_ID: 0, WARM_ID: 0}
    assert torch.equal(placed[special_token == 0], embeddings[special_token == 0])
    assert torch.equal(embeddings, before)
    for row, place in special_token.nonzero().tolist():
        mark, item = int(special_token[row, place]), int(batch["soft_item"][row, place])
        expected = {
            USER_ID: lambda row=row: by_hand.user_token(batch["user"][row], batch["history"][row].numpy()),
            ITEM_ID: lambda item=item: by_hand.item_token(item),
            WARM_ID: lambda item=item: by_hand.warm_token(item),
        }[mark]()
        torch.testing.assert_close(placed[row, place].double(), expected, atol=1e-5, rtol=1e-5)
        checked[mark] += 1
    assert checked == {USER_ID: len(special_token), ITEM_ID: len(batch["labels"]), WARM_ID: len(batch["labels"])}


def test_exactly_the_named_parameters_receive_gradients(lively_llm, prompts, batch, soft_tokens):
    llm = add_adapter(lively_llm, TuneConfig(lora_rank=2)).requires_grad_(False)
    scorer = YesNoScorer(llm, prompts.yes_id, prompts.no_id, fresh(soft_tokens))
    inputs = {name: tensor for name, tensor in batch.items() if name not in ("labels", "index")}
    torch.nn.functional.binary_cross_entropy_with_logits(scorer(**inputs), batch["labels"]).backward()
    assert {name for name, p in scorer.named_parameters() if p.requires_grad} == TRAINED
    assert {name for name, p in scorer.named_parameters() if p.grad is not None and p.grad.any()} == TRAINED
    assert not any(buffer.requires_grad for buffer in scorer.buffers())


@pytest.mark.parametrize("gain", [0.3, 1.0])
def test_tokens_start_with_a_share_of_a_real_tokens_norm(soft_tokens, gain):
    fresh_tokens, items = fresh(soft_tokens, gain), torch.arange(1, 13)
    history = torch.tensor([[1, 2, 0]])
    tokens = (
        fresh_tokens.user_embedding(torch.tensor([1]), history),
        fresh_tokens.item_embedding(items),
        fresh_tokens.warm_embedding(items),
    )
    for embedding in tokens:
        torch.testing.assert_close(embedding.norm(dim=-1), torch.full((len(embedding),), 2.0 * gain))


def test_an_unseen_user_is_folded_in_from_the_history(soft_tokens, by_hand):
    unseen, known = torch.tensor([6]), torch.tensor([1])
    one, other = torch.tensor([[1, 2, 0]]), torch.tensor([[3, 4, 5]])
    torch.testing.assert_close(
        soft_tokens.user_embedding(unseen, one)[0].double(), by_hand.user_token(6, one[0].numpy()), atol=1e-5, rtol=1e-5
    )
    assert not torch.allclose(soft_tokens.user_embedding(unseen, one), soft_tokens.user_embedding(unseen, other))
    assert torch.equal(soft_tokens.user_embedding(known, one), soft_tokens.user_embedding(known, other))
    nobody = soft_tokens.user_embedding(torch.tensor([0, 6]), torch.zeros(2, 3, dtype=torch.int64))
    assert torch.isfinite(nobody).all()


def test_an_unseen_users_row_trains_the_history_items_alone(soft_tokens):
    soft_tokens.user_embedding(torch.tensor([6]), torch.tensor([[2, 5, 0]])).sum().backward()
    assert soft_tokens.item_vectors.grad.any(dim=1).nonzero().flatten().tolist() == [2, 5]
    assert soft_tokens.user_vectors.grad is None or not soft_tokens.user_vectors.grad.any()


@pytest.mark.parametrize("warm_token", [True, False])
def test_cold_items_are_told_apart_by_their_semantics_alone(lively_llm, tokenizer, soft_tokens, split, warm_token):
    from sella_rec.config import PromptConfig

    # items 11 and 12 were never trained: same title, same biases, vectors of zero
    prompts = PromptBuilder(tokenizer, PromptConfig(), [""] + ["Star"] * 12)
    soft_tokens.tables.item_bias[11:] = 0
    rows = split.take(np.zeros(2, dtype=np.int64))
    rows.item[:] = (11, 12)
    assert not soft_tokens.item_vectors[11:].any()
    scorer = YesNoScorer(lively_llm, prompts.yes_id, prompts.no_id, soft_tokens)
    first, second = score_split(scorer, Packer(prompts, soft_tokens=True, warm_token=warm_token), rows, 2048)
    assert np.isfinite([first, second]).all()
    assert abs(first - second) > 0.01 if warm_token else abs(first - second) < 1e-5


def test_residual_by_hand(soft_tokens, by_hand):
    logits, row = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([0, 0, 1])
    batch = {
        "user": torch.tensor([2, 6]),
        "history": torch.tensor([[1, 2, 0], [3, 4, 5]]),
        "item": torch.tensor([4, 11, 7]),
    }
    found = soft_tokens.combine(logits, batch, row)
    expected = [
        by_hand.combine(logits[n].item(), int(batch["user"][r]), int(batch["item"][n]), batch["history"][r].numpy())
        for n, r in enumerate(row.tolist())
    ]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-5)
    soft_tokens.set_residual(1.0, 0.0, 0.0)
    assert torch.equal(soft_tokens.combine(logits, batch, row), logits)


def test_standardized_semantics_are_centred_of_unit_variance_and_keep_padding_at_zero():
    torch.manual_seed(0)
    semantics = torch.cat([torch.zeros(1, 6), torch.randn(9, 6) * 3 + torch.arange(6) * 100])
    found = standardize(semantics, *mean_and_scale(semantics))
    assert not found[0].any()
    torch.testing.assert_close(found[1:].mean(dim=0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1:].std(), torch.tensor(1.0))
    # alike semantics must not blow up
    assert not standardize(torch.ones(4, 6), *mean_and_scale(torch.ones(4, 6)))[1:].any()
