"""A command says in seconds that MLflow is away; the steps that it starts wait for it."""

import os
import subprocess
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from rich.console import Console

from pipeline.local import run
from pipeline.local.run_folder import RunFolder
from sella_rec.transient import be_patient


class StartedError(Exception):
    """The runner's process would have been started."""


def test_the_steps_of_a_local_run_do_not_inherit_the_commands_haste(tmp_path, monkeypatch, fresh_store):
    given = {}

    def popen(_command, env, **_):
        given.update(env)
        raise StartedError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "subprocess", SimpleNamespace(Popen=popen, STDOUT=subprocess.STDOUT))
    folder = RunFolder(tmp_path / "runs" / "1")
    folder.path.mkdir(parents=True)
    with patch.dict(os.environ, {"MLFLOW_TRACKING_URI": fresh_store()}):
        for name in ("SELLA_PATIENCE", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
            os.environ.pop(name, None)
        with pytest.raises(StartedError):
            run._work(folder, {"arguments": {}, "cache": str(tmp_path)}, Console(quiet=True))
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
    with patch.dict(os.environ, given, clear=True):
        # as each step does
        be_patient()
        assert os.environ["SELLA_PATIENCE"] == "900"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "10"
