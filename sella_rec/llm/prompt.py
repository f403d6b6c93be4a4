"""Prompts as token ids: a history part that many targets share, and a target part that ends where the answer is asked.

Titles and wordings are tokenized apart and joined as ids, so a long title is cut without touching the question, and a
history's ids are the same whatever targets follow.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import MutableMapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sella_rec.config import PromptConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WORDINGS = {"film": ("film", "films"), "book": ("book", "books"), "product": ("product", "products")}
_CONTENT = "{{content}}"

# What stands at a position whose input embedding is replaced (stage 3), as marked in `PromptPart.special_token`.
USER_ID, ITEM_ID, WARM_ID = 1, 2, 3


@dataclass(frozen=True)
class PromptPart:
    """Token ids of a part of a prompt, and for each position 0 or the special token that replaces its embedding."""

    ids: list[int]
    special_token: list[int]

    def __len__(self) -> int:
        return len(self.ids)


class PromptBuilder:
    """Builds parts of prompts for items known by index (1-based; index 0 is padding).

    Args:
        tokenizer: of the backbone; its chat template is used where it has one.
        config: wordings and lengths.
        titles: by item index, entry 0 unused.

    Raises:
        ValueError: `Yes` and `No` begin with the same token under this tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig, titles: Sequence[str]):
        self._tokenizer = tokenizer
        self._limit = config.max_title_tokens
        self._titles = list(titles)
        self._title_cache: MutableMapping[str, list[int]] = {}
        one, many = WORDINGS[config.wording]
        words = {"{one}": one, "{many}": many, "{One}": one.capitalize(), "{Many}": many.capitalize()}
        head, tail = _frame(tokenizer, config.system)
        self._head = self._encode(head)
        history_before, history_after = _fill(config.history, words).split("{titles}")
        target_before, target_after = _fill(config.target, words).split("{title}")
        self._history_before, self._history_after = self._encode(history_before.rstrip()), self._encode(history_after)
        self._no_history = self._encode(_fill(config.no_history, words))
        self._separator = self._encode(config.separator.rstrip())
        self.target_before = self._encode(target_before.rstrip())
        self._target_after = self._encode(target_after + tail)
        item_before, item_after = _fill(config.item, words).split("{title}")
        self._item_before, self._item_after = self._encode(item_before.rstrip()), self._encode(item_after)
        self.yes_id, self.no_id = self._answers("" if tail[-1:].isspace() else " ")

    def _answers(self, space: str) -> tuple[int, int]:
        # some tokenizers add a space in front themselves; with a second one both words have the same first token
        for before in (space, ""):
            yes, no = (self._encode(before + word)[0] for word in ("Yes", "No"))
            if yes != no:
                return yes, no
        raise ValueError(
            "the tokenizer gives 'Yes' and 'No' the same first token, so the answers cannot be told apart: "
            "set backbone.name to another LLM"
        )

    def with_new_items(self, titles: Sequence[str]) -> PromptBuilder:
        """This builder with more items, whose indices follow those known here."""
        other = copy(self)
        other._titles = [*self._titles, *titles]
        # titles from requests must not accumulate in the cache of the catalogue
        other._title_cache = ChainMap({}, self._title_cache)
        return other

    def history(self, items: Sequence[int], soft_tokens: bool = False) -> PromptPart:
        """The shared part: liked items oldest first (zeros are skipped); `<User_ID>` in front in stage 3."""
        ids, special_token = list(self._head), [0] * len(self._head)
        if soft_tokens:
            ids.append(self.yes_id)
            special_token.append(USER_ID)
        liked = [item for item in items if item]
        body = list(self._history_before) if liked else list(self._no_history)
        for position, item in enumerate(liked):
            body += self._title(item)
            body += self._separator if position < len(liked) - 1 else self._history_after
        return PromptPart(ids + body, special_token + [0] * len(body))

    def target(self, item: int, soft_tokens: bool = False, warm_token: bool = True) -> PromptPart:
        """The question about one item; `<Item_ID>` and `<Warm_ID>` after its title in stage 3."""
        ids = [*self.target_before, *self._title(item)]
        special_token = [0] * len(ids)
        if soft_tokens:
            marks = [ITEM_ID, WARM_ID] if warm_token else [ITEM_ID]
            # the id under a replaced embedding is not used; any valid one will do
            ids += [self.yes_id] * len(marks)
            special_token += marks
        return PromptPart(ids + self._target_after, special_token + [0] * len(self._target_after))

    def item(self, item: int) -> list[int]:
        """Token ids of the short prompt whose last hidden state is the item's semantics."""
        return [*self._item_before, *self._title(item), *self._item_after]

    def _title(self, item: int) -> list[int]:
        title = self._titles[item]
        if title not in self._title_cache:
            self._title_cache[title] = self._encode(" " + title)[: self._limit]
        return self._title_cache[title]

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return tokens


def _fill(template: str, words: dict[str, str]) -> str:
    for mark, word in words.items():
        template = template.replace(mark, word)
    return template


def _frame(tokenizer: PreTrainedTokenizerBase, system: str) -> tuple[str, str]:
    """What stands before and after the user's content: the chat template's, or plain lines where there is none."""
    if tokenizer.chat_template is None:
        return f"{tokenizer.bos_token or ''}{system}\n", "\nAnswer:"
    messages = [{"role": "system", "content": system}, {"role": "user", "content": _CONTENT}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    head, tail = str(text).split(_CONTENT)
    return head, tail
