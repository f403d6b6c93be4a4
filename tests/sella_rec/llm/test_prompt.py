"""Prompts against the tokenizer's own chat template and texts written by hand."""

import copy

import pytest

from sella_rec.config import PromptConfig
from sella_rec.llm.prompt import ITEM_ID, USER_ID, WARM_ID, PromptBuilder

TITLES = ["", "Star Moon", "Heart", "A " + "Very Long " * 30 + "Title"]


@pytest.fixture
def plain_tokenizer(tokenizer):
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    return plain


def text(tokenizer, *pieces):
    ids = [token for piece in pieces for token in (piece if isinstance(piece, list) else piece.ids)]
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def test_joined_pieces_read_as_the_chat_template_has_it(tokenizer):
    prompts = PromptBuilder(tokenizer, PromptConfig(), TITLES)
    messages = [
        {"role": "system", "content": "Answer Yes or No."},
        {"role": "user", "content": "Liked films: Star Moon; Heart.\nLike Star Moon?"},
    ]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text(tokenizer, prompts.history([1, 2]), prompts.target(1)) == expected
    assert [tokenizer.decode([i]) for i in (prompts.yes_id, prompts.no_id)] == ["Yes", "No"]


def test_without_a_chat_template_plain_lines_and_answers_after_a_space(plain_tokenizer):
    prompts = PromptBuilder(plain_tokenizer, PromptConfig(), TITLES)
    joined = text(plain_tokenizer, prompts.history([2]), prompts.target(1))
    assert joined == "<|im_start|>Answer Yes or No.\nLiked films: Heart.\nLike Star Moon?\nAnswer:"
    assert [plain_tokenizer.decode([i]) for i in (prompts.yes_id, prompts.no_id)] == [" Yes", " No"]


def test_a_long_title_is_cut_but_never_the_question(tokenizer):
    prompts = PromptBuilder(tokenizer, PromptConfig(max_title_tokens=5), TITLES)
    kept = tokenizer.decode(tokenizer.encode(" " + TITLES[3], add_special_tokens=False)[:5])
    assert text(tokenizer, prompts.target(3)) == f"Like{kept}?<|im_end|>\n<|im_start|>assistant\n"
    history = text(tokenizer, prompts.history([3, 2]))
    assert history.endswith(f"Liked films:{kept}; Heart.\n")
    assert text(tokenizer, prompts.item(3)) == f"Film:{kept}"
    assert kept != " " + TITLES[3]


@pytest.mark.parametrize(
    ("wording", "one", "many"),
    [("film", "Film", "films"), ("book", "Book", "books"), ("product", "Product", "products")],
)
def test_wordings(tokenizer, wording, one, many):
    prompts = PromptBuilder(tokenizer, PromptConfig(wording=wording, target="Like this {one}, {title}?"), TITLES)
    assert text(tokenizer, prompts.history([1])).endswith(f"Liked {many}: Star Moon.\n")
    assert text(tokenizer, prompts.history([])).endswith(f"No liked {many} yet.\n")
    assert text(tokenizer, prompts.target(2)).startswith(f"Like this {one.lower()}, Heart?")
    assert text(tokenizer, prompts.item(2)) == f"{one}: Heart"


def test_padding_items_are_skipped(prompts):
    assert prompts.history([1, 2, 0, 0]) == prompts.history([1, 2])
    assert prompts.history([0, 0]) == prompts.history([])


def test_special_tokens_stand_in_front_of_the_history_and_after_the_title(tokenizer, prompts):
    history, target = prompts.history([1, 2], soft_tokens=True), prompts.target(1, soft_tokens=True)
    assert [mark for mark in history.special_token if mark] == [USER_ID]
    assert [mark for mark in target.special_token if mark] == [ITEM_ID, WARM_ID]
    before_user = history.ids[: history.special_token.index(USER_ID)]
    assert text(tokenizer, before_user).endswith("<|im_start|>user\n")
    place = target.special_token.index(ITEM_ID)
    assert target.special_token[place + 1] == WARM_ID
    assert text(tokenizer, target.ids[:place]) == "Like Heart again 1"
    assert text(tokenizer, target.ids[place + 2 :]).startswith("?")
    for stage_3, stage_1 in ((history, prompts.history([1, 2])), (target, prompts.target(1))):
        assert len(stage_3.ids) == len(stage_3.special_token)
        assert [i for i, mark in zip(stage_3.ids, stage_3.special_token, strict=True) if not mark] == stage_1.ids
        assert not any(stage_1.special_token)


def test_warm_token_can_be_left_out(prompts):
    assert [mark for mark in prompts.target(1, True, warm_token=False).special_token if mark] == [ITEM_ID]


def test_answers_that_both_begin_with_the_space_are_taken_without_it():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # bytes without merges: " Yes" and " No" both begin with the space
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    prompts = PromptBuilder(PreTrainedTokenizerFast(tokenizer_object=bpe), PromptConfig(), TITLES)
    assert (alphabet[prompts.yes_id], alphabet[prompts.no_id]) == ("Y", "N")


def test_answers_that_begin_alike_are_an_error():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    unknowing = Tokenizer(models.WordLevel(vocab={"[UNK]": 0}, unk_token="[UNK]"))
    with pytest.raises(ValueError, match="same first token"):
        PromptBuilder(PreTrainedTokenizerFast(tokenizer_object=unknowing), PromptConfig(), TITLES)
