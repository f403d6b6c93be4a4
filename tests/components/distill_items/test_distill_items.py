"""distill-items over a tiny tuned LLM, against the plain model's last hidden state of each prompt alone."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from components.distill_items.step import distill_items
from sella_rec.data.dataset import PreparedData
from sella_rec.llm.adapter import load_adapter
from sella_rec.llm.backbone import load_backbone
from sella_rec.llm.prompt import PromptBuilder
from sella_rec.llm.semantics import item_semantics
from sella_rec.tracking.tracker import Tracker


@pytest.fixture(scope="module")
def semantics(tiny_config, genre_data, tuned, tmp_path_factory):
    output = tmp_path_factory.mktemp("distilled") / "output"
    distill_items(tiny_config, genre_data, tuned, output, Tracker())
    return load_file(output / "semantics.safetensors")["semantics"]


@pytest.fixture(scope="module")
def prompts(tiny_config, genre_data, tuned):
    tokenizer = load_adapter(tuned / "adapter", "cpu")[1]
    builder = PromptBuilder(tokenizer, tiny_config.prompt, PreparedData(genre_data).titles)
    return [builder.item(item) for item in range(1, PreparedData(genre_data).n_items + 1)]


def test_one_float32_row_an_item_and_zeros_for_padding(semantics, genre_data):
    assert semantics.dtype == torch.float32
    assert semantics.shape == (PreparedData(genre_data).n_items + 1, 64)
    assert not semantics[0].any()
    assert semantics[1:].any(dim=1).all()


def test_a_row_is_the_last_hidden_state_of_the_prompts_last_token(semantics, prompts, tuned):
    llm = load_adapter(tuned / "adapter", "cpu")[0]
    for item in (1, 17, len(prompts)):
        with torch.no_grad():
            hidden = llm(torch.tensor([prompts[item - 1]]), output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(semantics[item], hidden[0, -1], atol=1e-4, rtol=0)


def test_same_vector_whatever_the_batch_or_padding(prompts, tuned, semantics):
    llm = load_adapter(tuned / "adapter", "cpu")[0]
    assert len({len(ids) for ids in prompts}) > 3
    alone, together = (item_semantics(llm, prompts, size) for size in (1, 16))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(semantics[1:], alone, atol=1e-5, rtol=0)
    order = np.random.default_rng(0).permutation(len(prompts))
    shuffled = item_semantics(llm, [prompts[i] for i in order], 16)
    torch.testing.assert_close(shuffled, alone[order], atol=1e-5, rtol=0)
    assert alone.std(dim=0).mean() > 0.1


def test_the_adapter_matters(tiny_config, prompts, semantics):
    untuned = item_semantics(load_backbone(tiny_config.backbone)[0], prompts, 64)
    assert (semantics[1:] - untuned).norm(dim=1).min() > 0.1


def test_progress_ends_with_all_items(prompts, tiny_config):
    seen = []
    item_semantics(load_backbone(tiny_config.backbone)[0], prompts, 32, lambda *at: seen.append(at))
    assert seen == [(32, 80), (64, 80), (80, 80)]
