"""A registered version as MLflow's scoring server serves it, with errors fit for a client."""

from __future__ import annotations

import json
import logging
import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR
from mlflow.pyfunc import PyFuncModel, load_model, scoring_server
from starlette.types import ASGIApp

from sella_rec.model.ranker import RequestError
from sella_rec.serving.checks import checked
from sella_rec.tracking.registry import RegistryError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A loaded model.

    Attributes:
        app: MLflow's scoring server over it.
        about: what `/version` answers.
        model: what the server answers with; the server itself does not keep it.
    """

    app: ASGIApp
    about: Mapping[str, str | None]
    model: object


def load_served(folder: Path, about: Mapping[str, str | None], max_items: int) -> Served:
    """Load a model from disk, and try it on its own input example before it serves requests.

    Raises:
        RegistryError: it cannot answer its input example.
        Exception: whatever MLflow and the model raise while it is loaded.
    """
    model = _load(folder)
    example = model.metadata.get_serving_input(str(folder))
    if example is None:
        log.warning("%s has no input example: it serves without having been tried", folder.name)
    else:
        _try(model, example)
    bounded = BoundedModel(model, max_items)
    # weakly: FastAPI keeps every endpoint it has seen in a cache, and with it whatever the endpoint holds
    app = scoring_server.init(cast(PyFuncModel, weakref.proxy(bounded)))
    return Served(app, about, bounded)


def _load(folder: Path) -> PyFuncModel:
    before = set(sys.modules)
    try:
        model: PyFuncModel = load_model(str(folder))
        return model
    finally:
        # MLflow registers each model's code as a module with a new name, which would keep the model forever
        for name in set(sys.modules) - before:
            if name.startswith("code_model_"):
                del sys.modules[name]


def _try(model: PyFuncModel, example: str) -> None:
    # the shortest answers: whether it answers is what matters, and hundreds of candidates take seconds
    asked = json.loads(example) | {"params": {"top_n": 1, "retrieve": 1}}
    schema = model.metadata.get_input_schema()
    try:
        scoring_server.invocations(json.dumps(asked), scoring_server.CONTENT_TYPE_JSON, model, schema)
    except MlflowException as error:
        raise RegistryError(f"it does not answer its own input example: {error}") from error


class BoundedModel:
    """What the scoring server needs of a `PyFuncModel`. Its errors are answers, without the request or a trace in them.

    Args:
        max_items: see `checked`.
    """

    def __init__(self, model: PyFuncModel, max_items: int):
        # Without a signature the server leaves rows as they are: its conversion takes a field that is left out in one
        # row and given in another for a number. The model itself enforces the signature.
        self.metadata = SimpleNamespace(get_input_schema=lambda: None)
        self._model, self._max_items = model, max_items
        params = model.metadata.get_params_schema()
        self._fields = model.metadata.get_input_schema().input_names()
        self._params = [param.name for param in params.params] if params else []

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """As `PyFuncModel.predict`.

        Raises:
            Answer: 400 for what the caller can fix, 500 for what is broken here.
        """
        try:
            rows = checked(data, params or {}, self._fields, self._params, self._max_items)
            return self._model.predict(rows, params=params)
        except RequestError as error:
            raise Answer(str(error), BAD_REQUEST) from error
        except MlflowException as error:
            # of the signature; MLflow quotes the whole request first
            raise Answer(error.message.rpartition(" Error: ")[2], BAD_REQUEST) from error
        except Exception as error:
            # a version that brings the library under its former name has an error class of its own
            if type(error).__name__ == RequestError.__name__:
                raise Answer(str(error), BAD_REQUEST) from error
            log.exception("the model failed on a request")
            raise Answer("the model failed on this request; see the server's log", INTERNAL_ERROR) from error


class Answer(MlflowException):
    """An error with the message that the client sees; MLflow's server would prepend the whole request."""

    def __init__(self, text: str, code: int):
        super().__init__(text, error_code=code)
        self.text = text

    def serialize_as_json(self) -> str:
        return json.dumps({"error_code": self.error_code, "message": self.text})
