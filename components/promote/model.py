"""The bundle as an MLflow pyfunc model; MLflow runs this file to load it (models from code, no pickle)."""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from components.core.bundle import Bundle, load_bundle


class SellaRec(PythonModel):
    """P(like) of pairs of user and item."""

    _bundle: Bundle

    def load_context(self, context: PythonModelContext) -> None:
        self._bundle = load_bundle(context.artifacts["bundle"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Probabilities for rows with columns user_id and item_id, in their order: one column, score.

        Raises:
            BundleError: a user or an item that the model does not know.
        """
        scores = pd.Series(index=model_input.index, dtype="float64")
        for user_id, rows in model_input.groupby("user_id", sort=False):
            scores[rows.index] = self._bundle.probabilities(user_id, rows["item_id"].tolist())
        return scores.to_frame("score")


mlflow.models.set_model(SellaRec())
