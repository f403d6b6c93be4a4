"""The test rows that the gate decides on, with the scores of challenger and rivals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

PREDICTIONS = "predictions.parquet"
_ROW = ("user_id", "item_id", "timestamp", "label")
# The arms of evaluate that a first model is compared with.
_COLLABORATIVE = {"MF": "mf", "LightGCN": "lightgcn"}


@dataclass(frozen=True)
class ScoredRows:
    """Test rows and the models' scores of them; n rows.

    Attributes:
        user: [n] any integer ids.
        label: [n] 0 or 1.
        cold: bool [n], the item does not occur in the challenger's train split.
        challenger: [n] P(like).
        rivals: by name, [n] P(like).
    """

    user: np.ndarray
    label: np.ndarray
    cold: np.ndarray
    challenger: np.ndarray
    rivals: Mapping[str, np.ndarray]


def read_window(bundle: Path, evaluation: Path, champion_scores: Path) -> ScoredRows:
    """Join the results of evaluate and score-champion.

    Args:
        bundle: fuse's folder; says which items occur in train.
        evaluation: evaluate's folder.
        champion_scores: score-champion's folder; without predictions, the rivals are the collaborative arms.

    Raises:
        ValueError: the two did not score the same rows.
    """
    predictions = pl.read_parquet(evaluation / PREDICTIONS)
    rows = predictions.filter(arm="sella")
    if (champion_scores / PREDICTIONS).is_file():
        scored = pl.read_parquet(champion_scores / PREDICTIONS)
        if not scored.select(_ROW).equals(rows.select(_ROW)):
            raise ValueError(
                f"{champion_scores / PREDICTIONS} and {evaluation / PREDICTIONS} have different rows: run "
                "score-champion and evaluate again on the same data"
            )
        rivals = {"champion": scored["score"]}
    else:
        rivals = {name: predictions.filter(arm=arm)["score"] for name, arm in _COLLABORATIVE.items()}
    # the bundle's ids are text, whatever the data's are
    items = pl.read_parquet(bundle / "items.parquet", columns=["item_id", "in_train"])
    known = rows.select(pl.col("item_id").cast(pl.String)).join(items, "item_id", "left", maintain_order="left")
    return ScoredRows(
        user=rows["user_id"].rank("dense").to_numpy(),
        label=rows["label"].to_numpy(),
        cold=~known["in_train"].to_numpy(),
        challenger=rows["score"].to_numpy(),
        rivals={name: score.to_numpy() for name, score in rivals.items()},
    )
