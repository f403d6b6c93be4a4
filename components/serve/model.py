"""A registered version as MLflow's scoring server serves it, with bounded requests and errors fit for a client."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR
from mlflow.pyfunc import PyFuncModel, scoring_server
from starlette.types import ASGIApp

from components.core.ranking import RETRIEVE, TOP_N, RequestError
from components.core.registry import RegistryError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A loaded model.

    Attributes:
        app: MLflow's scoring server over it.
        about: what `/version` tells of it.
    """

    app: ASGIApp
    about: Mapping[str, str | None]


def load_served(folder: Path, about: Mapping[str, str | None], max_items: int) -> Served:
    """Load a model from disk, and let it answer its own input example before anybody else asks.

    Raises:
        RegistryError: it cannot answer; whatever MLflow and the model raise while it is loaded.
    """
    model = BoundedModel(mlflow.pyfunc.load_model(str(folder)), max_items)
    example = model.metadata.get_serving_input(str(folder))
    if example is None:
        log.warning("%s has no input example: it is not tried before it serves", folder.name)
    else:
        _try(model, example)
    return Served(scoring_server.init(cast(PyFuncModel, model)), about)


def _try(model: BoundedModel, example: str) -> None:
    schema = model.metadata.get_input_schema()
    try:
        scoring_server.invocations(example, scoring_server.CONTENT_TYPE_JSON, model, schema)
    except MlflowException as error:
        raise RegistryError(f"it does not answer its own input example: {error}") from error


class BoundedModel:
    """What the scoring server needs of a `PyFuncModel`. Errors are answers of their own, without data or traces.

    Args:
        max_items: of candidates and of histories, over all rows of a request; a row without candidates counts as many
            as its top-N has the LLM rank.
    """

    def __init__(self, model: PyFuncModel, max_items: int):
        self.metadata = model.metadata
        self._model = model
        self._max_items = max_items

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """As `PyFuncModel.predict`.

        Raises:
            Answer: 400 for what the caller can mend, 500 for what is broken here.
        """
        try:
            self._check(_columns(data), params or {})
            return self._model.predict(data, params=params)
        except RequestError as error:
            raise Answer(str(error), BAD_REQUEST) from error
        except MlflowException as error:
            # of the input's schema; MLflow quotes the whole request first
            raise Answer(error.message.rpartition(" Error: ")[2], BAD_REQUEST) from error
        except Exception as error:
            log.exception("the model failed on a request")
            raise Answer("the model failed on this request; the server's log says why", INTERNAL_ERROR) from error

    def _check(self, columns: Mapping[str, Sequence[Any]], params: Mapping[str, Any]) -> None:
        schema, params_schema = self.metadata.get_input_schema(), self.metadata.get_params_schema()
        known = schema.input_names()
        for name in columns:
            if name not in known:
                raise RequestError(f"{name}: unknown; the fields of a row are {', '.join(known)}")
        allowed = [param.name for param in params_schema.params] if params_schema else []
        for name in params:
            if name not in allowed:
                raise RequestError(f"params.{name}: unknown; there are {', '.join(allowed) or 'none'}")
        self._check_size(columns, params)

    def _check_size(self, columns: Mapping[str, Sequence[Any]], params: Mapping[str, Any]) -> None:
        rows = max((len(values) for values in columns.values()), default=0)
        if rows == 0:
            raise RequestError("no rows: give one a user")
        counts = {name: [_length(value) for value in columns.get(name, [None] * rows)] for name in _LISTS}
        per_open_row = max(int(params.get("top_n", TOP_N)), int(params.get("retrieve", RETRIEVE)))
        counts["candidates"] = [per_open_row if count is None else count for count in counts["candidates"]]
        for name in _LISTS:
            counted = sum(count or 0 for count in counts[name])
            if counted > self._max_items:
                raise RequestError(
                    f"{name}: {counted} items over the rows of this request, at most {self._max_items} are taken; "
                    "split it"
                )


_LISTS = ("candidates", "history")


def _columns(data: Any) -> Mapping[str, Sequence[Any]]:
    if isinstance(data, pd.DataFrame):
        return {str(name): list(data[name]) for name in data.columns}
    raise RequestError("instances, inputs: not taken; give the rows as dataframe_records or dataframe_split")


def _length(value: Any) -> int | None:
    """Of a list or an array; none where the field is left out."""
    return None if value is None or isinstance(value, float) or not hasattr(value, "__len__") else len(value)


class Answer(MlflowException):
    """An error with the message that the client sees, which MLflow's server would put the whole request before."""

    def __init__(self, text: str, code: int):
        super().__init__(text, error_code=code)
        self.text = text

    def serialize_as_json(self) -> str:
        return json.dumps({"error_code": self.error_code, "message": self.text})
