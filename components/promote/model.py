"""The bundle as an MLflow pyfunc model; MLflow runs this file to load it (models from code, no pickle)."""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from components.core.bundle import load_bundle
from components.core.ranking import Ranker, Request


class SellaRec(PythonModel):
    """P(like) of pairs of user and item."""

    _ranker: Ranker

    def load_context(self, context: PythonModelContext) -> None:
        self._ranker = Ranker(load_bundle(context.artifacts["bundle"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Probabilities for rows with columns user_id and item_id, in their order: one column, score.

        Raises:
            RequestError: an item cannot be what was meant.
        """
        pairs = model_input.astype(str)[["user_id", "item_id"]].itertuples(index=False)
        rankings = self._ranker.rank([Request(user_id, candidates=(item_id,)) for user_id, item_id in pairs])
        return pd.DataFrame({"score": [ranking.scores[0] for ranking in rankings]}, index=model_input.index)


mlflow.models.set_model(SellaRec())
