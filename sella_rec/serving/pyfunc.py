"""The bundle as an MLflow pyfunc model; MLflow runs this file to load it (models from code, no pickle)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from sella_rec.config import Config
from sella_rec.model.bundle import load_bundle
from sella_rec.model.ranker import RETRIEVE, TOP_N, Ranker, Request
from sella_rec.runtime.step import stay_offline_if_local


class SellaRec(PythonModel):
    """Ranks items for known users, and for new ones by what they liked."""

    _ranker: Ranker

    def load_context(self, context: PythonModelContext) -> None:
        bundle = Path(context.artifacts["bundle"])
        stay_offline_if_local(Config.from_json((bundle / "config.json").read_text()).backbone)
        self._ranker = Ranker(load_bundle(bundle))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer one request per row.

        Args:
            model_input: user_id (text), history and candidates (lists of text), each of which may be missing: see
                `Request`.
            params: top_n and retrieve, see `Ranker.rank`.

        Returns:
            One row per request with four lists of equal length: item_ids, titles, scores (P(like)), ranks (1 is best).

        Raises:
            RequestError: the message names row, field and fix.
        """
        requests = [
            Request(_value(row.get("user_id")), _items(row.get("history")), _items(row.get("candidates")))
            for row in model_input.to_dict("records")
        ]
        wanted = {"top_n": TOP_N, "retrieve": RETRIEVE} | (params or {})
        rankings = self._ranker.rank(requests, **wanted)
        answers = [
            {"item_ids": r.item_ids, "titles": r.titles, "scores": r.scores.tolist(), "ranks": r.ranks.tolist()}
            for r in rankings
        ]
        return pd.DataFrame(answers, index=model_input.index, columns=["item_ids", "titles", "scores", "ranks"])


def _value(cell: Any) -> Any:
    """A cell, or None for any of pandas' missing values."""
    return None if pd.api.types.is_scalar(cell) and pd.isna(cell) else cell


def _items(cell: Any) -> tuple[str, ...] | None:
    return None if (cell := _value(cell)) is None else tuple(cell)


mlflow.models.set_model(SellaRec())
