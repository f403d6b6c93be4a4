"""Example recommendations: what SeLLa-Rec would show some test users, with the other arms' scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from sella_rec.collab.tables import CollabTables
from sella_rec.data.dataset import PreparedData, Split
from sella_rec.llm.packing import Progress
from sella_rec.llm.scorer import probability
from sella_rec.model.bundle import Bundle
from sella_rec.model.ranker import Ranker, Ranking, Request

# Time grows with it; for examples, the best thirty by collaborative score do as well as hundreds
_CANDIDATES = 32
_MIN_LIKED = 3


@dataclass(frozen=True)
class Recommendation:
    """An unseen item with its probability of a like by arm."""

    title: str
    probability: dict[str, float]


@dataclass(frozen=True)
class Example:
    """A user, the liked titles that the prompt shows (oldest first) and the recommendations, best first."""

    user_id: str
    liked: list[str]
    recommended: list[Recommendation]


def recommend_examples(
    model: Bundle,
    data: PreparedData,
    tables: Mapping[str, CollabTables],
    users: int,
    seed: int,
    progress: Progress,
    each: int = 3,
) -> list[Example]:
    """The `each` best unseen items for test users drawn at random among those with some likes.

    Args:
        model: ranks with SeLLa-Rec, and scores the text-only arm.
        data: the prepared data set that the model was trained on.
        tables: collaborative models by arm.
        users: examples wanted; fewer where fewer users qualify.
        seed: of the draw.
        progress: called with pairs scored, done and in all.
        each: recommendations a user.
    """
    ids = data.users["user_id"].cast(pl.String).gather(_users_with_likes(data.test, users, seed) - 1).to_list()
    ranker, titles, examples = Ranker(model), data.titles, []
    rankings = ranker.rank([Request(user_id) for user_id in ids], each, _CANDIDATES, progress=progress)
    for user_id, best in zip(ids, rankings, strict=True):
        if best.titles:
            asked = ranker.rows([Request(user_id, candidates=tuple(map(str, best.item_ids)))])
            liked = [titles[item] for item in asked.history[0] if item]
            examples.append(Example(user_id, liked, _judge(model, tables, asked, best)))
    return examples


def _judge(model: Bundle, tables: Mapping[str, CollabTables], asked: Split, best: Ranking) -> list[Recommendation]:
    others = {"text_only": model.score(asked, "text_only")} | {a: t.score_split(asked) for a, t in tables.items()}
    by_arm = {"sella": best.scores} | {arm: probability(logits) for arm, logits in others.items()}
    return [
        Recommendation(title, {arm: float(values[row]) for arm, values in by_arm.items()})
        for row, title in enumerate(best.titles)
    ]


def _users_with_likes(test: Split, users: int, seed: int) -> np.ndarray:
    eligible = np.unique(test.user[(test.history > 0).sum(axis=1) >= _MIN_LIKED])
    return np.sort(np.random.default_rng(seed).permutation(eligible)[:users])
