"""Measures of a window of interactions, for each user separately, since rows of one user depend on each other.

Shapes: U users of a window, I its items, bins by measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.sparse import csr_array
from scipy.stats import entropy

from sella_rec.data.training_reference import words

Counts = Mapping[str, np.ndarray]

# Share: of the rows, the second of two bins. Distribution: over all bins.
SHARES = ("like_rate", "unseen_items", "unseen_users")
DISTRIBUTIONS = ("popularity", "activity", "title_words")
MEASURES = (*SHARES, *DISTRIBUTIONS)

OTHER_WORDS = "(other words)"
_BANDS = 20
_ACTIVITY_BINS = 10
_VOCABULARY = 50


@dataclass(frozen=True)
class NewInteractions:
    """Interactions of one period, and all that had come before it.

    Attributes:
        rows, known: user_id, item_id, timestamp, label.
    """

    rows: pl.DataFrame
    known: pl.DataFrame


def count(window: NewInteractions, titles: pl.DataFrame, vocabulary: Sequence[str]) -> Counts:
    """Counts by measure, float64 [U, bins], a row for each user of the window.

    like_rate: rows that are dislikes, likes. unseen_items, unseen_users: rows whose item (user) is known, is not.
    popularity: rows by band of their item, 20 bands of equally many known rows, most rated items first; unseen items
    are left out. activity: 1 in the user's bin of 1, 2-3, 4-7, ... rows. title_words: words by `vocabulary`, other
    known words, words of no title rated before.

    Args:
        titles: item_id, title of every item of `window`.
    """
    rows = window.rows
    user = rows["user_id"].rank("dense").to_numpy() - 1
    items = rows["item_id"].unique(maintain_order=True)
    item = rows["item_id"].replace_strict(items, np.arange(len(items))).to_numpy()
    seen = _tally(user, item, (int(user.max()) + 1, len(items)))
    known = items.is_in(window.known["item_id"].unique().implode()).to_numpy()
    new_user = np.zeros(seen.shape[0], dtype=bool)
    new_user[user] = ~rows["user_id"].is_in(window.known["user_id"].unique().implode()).to_numpy()
    label, totals = rows["label"].to_numpy().astype(np.int64), seen.sum(axis=1)
    activity = np.minimum(np.log2(totals).astype(int), _ACTIVITY_BINS - 1)
    return {
        "like_rate": _tally(user, label, (seen.shape[0], 2)).toarray(),
        "unseen_items": seen @ np.eye(2)[(~known).astype(int)],
        "unseen_users": totals[:, None] * np.eye(2)[new_user.astype(int)],
        "popularity": seen @ _bands(window.known, items),
        "activity": np.eye(_ACTIVITY_BINS)[activity],
        "title_words": seen @ _words_of(items, window.known, titles, vocabulary),
    }


def bin_labels(vocabulary: Sequence[str]) -> dict[str, list[str]]:
    """Labels of the bins of each measure, for the report."""
    powers = [2**index for index in range(_ACTIVITY_BINS)]
    return {
        "like_rate": ["dislike", "like"],
        "unseen_items": ["known", "unseen"],
        "unseen_users": ["known", "unseen"],
        "popularity": ["most rated", *(str(band) for band in range(2, _BANDS)), "least rated"],
        "activity": ["1", *(f"{power} to {2 * power - 1}" for power in powers[1:-1]), f"{powers[-1]} or more"],
        "title_words": [*vocabulary, OTHER_WORDS, "(words of no earlier title)"],
    }


def frequent_words(known: pl.DataFrame, titles: pl.DataFrame) -> list[str]:
    """The 50 words that the titles of the rated items hold most often."""
    rated = known.group_by("item_id").len().join(titles, on="item_id")
    spoken = words(rated).group_by("word").agg(pl.col("len").sum())
    return spoken.sort("len", "word", descending=[True, False])["word"].head(_VOCABULARY).to_list()


def psi(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Population stability index [...] of counts [..., bins]: the sum of both Kullback-Leibler divergences, in nats.

    Half a row is added to every bin, so that an empty one does not make it infinite.
    """
    p, q = first + 0.5, second + 0.5
    result: np.ndarray = entropy(p, q, axis=-1) + entropy(q, p, axis=-1)
    return result


def _tally(row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> csr_array:
    """How often each pair of row and column occurs."""
    return csr_array((np.ones(len(row)), (row, column)), shape=shape)


def _bands(known: pl.DataFrame, items: pl.Series) -> np.ndarray:
    """How much of each item is in each band, [I, 20], from the most rated on: rows of zeros for unseen items.

    An item with more rows than a band holds is spread over several, and one on a border over two: put into one, it
    would take all its rows into the next band as soon as another overtook it.
    """
    counts = known.group_by("item_id").len().sort("len", "item_id", descending=[True, False])
    end = counts["len"].cum_sum() / counts["len"].sum() * _BANDS
    spans = counts.select("item_id", end=end, width=end.diff().fill_null(end[0] if len(end) else None))
    found = pl.DataFrame({"item_id": items}).join(spans, on="item_id", how="left", maintain_order="left")
    last, width = (found[name].fill_null(value).to_numpy()[:, None] for name, value in (("end", 0.0), ("width", 1.0)))
    band = np.arange(_BANDS)
    shares: np.ndarray = (np.minimum(last, band + 1) - np.maximum(last - width, band)).clip(min=0) / width
    return shares


def _words_of(items: pl.Series, known: pl.DataFrame, titles: pl.DataFrame, vocabulary: Sequence[str]) -> np.ndarray:
    """How many words of each bin an item's title has, [I, 52]."""
    rated = words(titles.join(known, on="item_id", how="semi"))["word"].unique()
    other, unheard = len(vocabulary), len(vocabulary) + 1
    bins = dict.fromkeys(rated, other) | {word: index for index, word in enumerate(vocabulary)}
    asked = pl.DataFrame({"item_id": items, "row": np.arange(len(items))})
    spoken = words(asked.join(titles, on="item_id"))
    column = spoken["word"].replace_strict(list(bins), list(bins.values()), default=unheard, return_dtype=pl.Int64)
    tally = _tally(spoken["row"].to_numpy(), column.to_numpy(), (len(items), unheard + 1))
    counts: np.ndarray = tally.toarray()
    return counts
