"""A version that carries its own copy of the library, under another name, as those registered before `sella_rec` do."""

from __future__ import annotations

import json
import sys
import textwrap

import mlflow
import pytest
from fastapi.testclient import TestClient

from components.promote.register import signature
from sella_rec.serving.scoring_app import load_served

LIBRARY = "class RequestError(ValueError):\n    pass\n"
MODEL = textwrap.dedent("""
    import mlflow
    import pandas as pd
    from former_library.ranking import RequestError

    class Former(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            if model_input["user_id"][0] == "nobody":
                raise RequestError("user_id: 'nobody' is not known")
            if model_input["user_id"][0] == "broken":
                raise ValueError("a weight is NaN")
            answer = {"item_ids": ["260"], "titles": ["Star Wars"], "scores": [0.5], "ranks": [1]}
            return pd.DataFrame([answer], index=model_input.index)

    mlflow.models.set_model(Former())
""")


@pytest.fixture(scope="module")
def former(tmp_path_factory):
    folder = tmp_path_factory.mktemp("former")
    (folder / "former_library").mkdir()
    (folder / "former_library" / "__init__.py").touch()
    (folder / "former_library" / "ranking.py").write_text(LIBRARY)
    (folder / "model.py").write_text(MODEL)
    sys.path.insert(0, str(folder))
    try:
        mlflow.pyfunc.save_model(
            folder / "saved",
            python_model=str(folder / "model.py"),
            code_paths=[str(folder / "former_library")],
            signature=signature(),
            pip_requirements=[],
        )
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.startswith("former_library")]:
            del sys.modules[name]
    return folder / "saved"


@pytest.mark.parametrize(("user", "status"), [("15", 200), ("nobody", 400), ("broken", 500)])
def test_its_own_error_for_a_bad_request_is_the_callers(former, user, status):
    served = load_served(former, {}, max_items=100)
    asked = json.dumps({"dataframe_records": [{"user_id": user}]})
    answer = TestClient(served.app).post("/invocations", content=asked, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert ("nobody" in answer.text) == (status == 400)
