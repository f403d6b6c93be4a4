"""Ranks with a bundle: how likely users are to like items, and which items of the catalogue they would like best.

Top-N over the catalogue takes two stages: the aligned collaborative model retrieves candidates, the LLM ranks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from sella_rec.data.dataset import Split
from sella_rec.errors import UserError
from sella_rec.llm.packing import Progress
from sella_rec.llm.scorer import probability
from sella_rec.model.bundle import Arm, Bundle
from sella_rec.model.retrieval import retrieve as retrieve_items

TOP_N, RETRIEVE = 10, 100


class RequestError(UserError):
    """A request that cannot be answered; the message names the field and the fix."""


@dataclass(frozen=True)
class Request:
    """One user's question. Items are given by item_id, or by title regardless of case.

    Attributes:
        user_id: if it is none, or unknown to the model, scores depend on `history` alone.
        history: liked items, oldest first; none: what the model knows of the user. Items unknown to the model can be
            given by title.
        candidates: items to score; none: the best items of the catalogue that the user has not seen.
    """

    user_id: str | None = None
    history: tuple[str, ...] | None = None
    candidates: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Ranking:
    """The candidates in the order given; without candidates, the best of the catalogue, best first.

    Attributes:
        item_ids: none for an item known by its title only.
        titles: of the same items.
        scores: P(like), float32 [n].
        ranks: int64 [n], 1 is best; equal scores in the order given.
    """

    item_ids: list[str | None]
    titles: list[str]
    scores: np.ndarray
    ranks: np.ndarray


@dataclass(frozen=True)
class _Question:
    """A request over indices: user (0: unknown), history and, where they are given, candidates, int64 [H] and [n]."""

    user: int
    history: np.ndarray
    candidates: np.ndarray | None
    seen: np.ndarray


class Ranker:
    """Answers requests with one bundle; safe to call from several threads.

    Args:
        bundle: of `load_bundle`.
    """

    def __init__(self, bundle: Bundle):
        self.bundle = bundle
        self._users = {user_id: row + 1 for row, user_id in enumerate(bundle.users["user_id"])}
        self._items = {item_id: row + 1 for row, item_id in enumerate(bundle.items["item_id"])}
        # a title that several items share means the first one in train
        by_train = bundle.items.with_row_index("row").sort("in_train", descending=True, maintain_order=True)
        self._titles = {_key(title): row + 1 for row, title in by_train.select("row", "title").reverse().iter_rows()}
        self._ids_are_numbers = bool(bundle.items["item_id"].str.contains(r"^\d+$").all())

    def knows(self, user_id: str) -> bool:
        """Whether the model has seen the user."""
        return user_id in self._users

    def rank(
        self,
        requests: Sequence[Request],
        top_n: int = TOP_N,
        retrieve: int = RETRIEVE,
        arm: Arm = "sella",
        progress: Progress | None = None,
    ) -> list[Ranking]:
        """Answer requests together.

        Args:
            requests: any mix of users and of given and open candidates.
            top_n: length of the answer where candidates are open; fewer where a user has seen nearly everything.
            retrieve: how many candidates the LLM ranks then, by collaborative score; at least `top_n` are.
            arm: what scores: SeLLa-Rec, its LLM without collaborative knowledge, or the collaborative model alone.
            progress: called with the number of pairs scored and of all pairs.

        Raises:
            RequestError: a request, `top_n` or `retrieve` cannot be answered.
        """
        for name, value in (("top_n", top_n), ("retrieve", retrieve)):
            if value < 1:
                raise RequestError(f"{name}: must be at least 1 (got {value})")
        unknown: dict[str, int] = {}
        questions = [
            self._question(request, unknown, f"request {n}: " if len(requests) > 1 else "")
            for n, request in enumerate(requests)
        ]
        bundle = self.bundle
        if unknown:
            bundle = bundle.with_new_items(pl.DataFrame({"title": list(unknown)}).with_columns(item_id=pl.lit(None)))
        items = self._candidates(bundle, questions, top_n if arm == "collab" else max(top_n, retrieve))
        scores = probability(bundle.score(_rows(questions, items), arm, progress))
        parts = np.split(scores, np.cumsum([len(some) for some in items])[:-1]) if items else []
        return [
            _ranking(bundle, some, part, top_n if question.candidates is None else None)
            for question, some, part in zip(questions, items, parts, strict=True)
        ]

    def rows(self, requests: Sequence[Request]) -> Split:
        """Each request's candidates as rows over the bundle's indices, so that other models can be asked the same.

        Raises:
            RequestError: a request cannot be answered, has no candidates, or names an item that is not in the bundle.
        """
        unknown: dict[str, int] = {}
        questions = [self._question(request, unknown, f"request {n}: ") for n, request in enumerate(requests)]
        if unknown:
            raise RequestError(f"{next(iter(unknown))!r} is not in the catalogue; give items of the catalogue only")
        items = [question.candidates for question in questions if question.candidates is not None]
        if len(items) < len(questions):
            raise RequestError("candidates: missing; give them with every request")
        return _rows(questions, items)

    def _question(self, request: Request, unknown: dict[str, int], where: str) -> _Question:
        user = self._users.get(request.user_id or "", 0)
        known = self.bundle.users.row(user - 1, named=True) if user else {"history": [], "seen": []}
        liked = known["history"] if request.history is None else request.history
        history = self._indices(liked, unknown, f"{where}history")
        candidates = None
        if request.candidates is not None:
            if not request.candidates:
                raise RequestError(f"{where}candidates: empty; give items, or leave it out to rank the whole catalogue")
            candidates = self._indices(request.candidates, unknown, f"{where}candidates")
        seen = np.array([self._items[item_id] for item_id in known["seen"]], dtype=np.int64)
        shown = history[-self.bundle.config.data.history_length :]
        return _Question(user, shown, candidates, np.union1d(seen, history))

    def _indices(self, items: Sequence[str], unknown: dict[str, int], field: str) -> np.ndarray:
        """Indices of items by id or title, int64 [n]; unknown titles are added to `unknown`."""
        found = [self._index(item, unknown, f"{field}[{n}]") for n, item in enumerate(items)]
        return np.array(found, dtype=np.int64)

    def _index(self, item: str, unknown: dict[str, int], field: str) -> int:
        if not isinstance(item, str):
            raise RequestError(f"{field}: must be a string, an item_id or a title (got {item!r})")
        index = self._items.get(item) or self._titles.get(_key(item))
        if index:
            return index
        if not item.strip():
            raise RequestError(f"{field}: empty; give an item_id or a title")
        if self._ids_are_numbers and item.strip().isdecimal():
            example = self.bundle.items["item_id"][0]
            raise RequestError(
                f"{field}: item_id {item!r} is not known to this model ({len(self._items)} are, such as {example!r}); "
                "give an unknown item by its title"
            )
        return unknown.setdefault(item, len(self._items) + 1 + len(unknown))

    def _candidates(self, bundle: Bundle, questions: Sequence[_Question], k: int) -> list[np.ndarray]:
        """The items to score for each question, those given or `k` retrieved."""
        open_ = [question for question in questions if question.candidates is None]
        users = np.array([question.user for question in open_], dtype=np.int64)
        excluded = [question.seen for question in open_]
        n_items = self.bundle.items.height
        found = iter(retrieve_items(bundle.soft_tokens, users, _histories(open_), excluded, n_items, k))
        return [next(found) if q.candidates is None else q.candidates for q in questions]


def _key(title: str) -> str:
    return title.strip().casefold()


def _histories(questions: Sequence[_Question]) -> np.ndarray:
    """Int64 [B, H], padded with 0."""
    padded = np.zeros((len(questions), max((len(q.history) for q in questions), default=0) or 1), dtype=np.int64)
    for row, question in enumerate(questions):
        padded[row, : len(question.history)] = question.history
    return padded


def _rows(questions: Sequence[_Question], items: Sequence[np.ndarray]) -> Split:
    """One row per pair; labels and times are not known, and 0."""
    sizes = [len(some) for some in items]
    n = sum(sizes)
    return Split(
        user=np.repeat(np.array([question.user for question in questions], dtype=np.int64), sizes),
        item=np.concatenate([np.zeros(0, dtype=np.int64), *items]),
        label=np.zeros(n, dtype=np.float32),
        timestamp=np.zeros(n, dtype=np.int64),
        history=np.repeat(_histories(questions), sizes, axis=0),
        warm=np.zeros(n, dtype=bool),
    )


def _ranking(bundle: Bundle, items: np.ndarray, scores: np.ndarray, top_n: int | None) -> Ranking:
    """All items in their order, or the best `top_n`, best first."""
    order = np.argsort(-scores, kind="stable")
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    shown = np.arange(len(order)) if top_n is None else order[:top_n]
    named = bundle.items[items[shown] - 1]
    return Ranking(named["item_id"].to_list(), named["title"].to_list(), scores[shown], ranks[shown])
