"""The command line: loopback unless told otherwise, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from sella_rec.serving.__main__ import main, parse
from sella_rec.serving.gateway import Limits


def test_by_default_it_listens_on_loopback_and_takes_what_the_gateway_takes():
    options = parse([], "serve")
    assert options.host == "127.0.0.1"
    assert Limits(options.max_bytes, options.concurrency, options.queue) == Limits()


@pytest.mark.parametrize("wrong", ["--queue=0", "--poll-seconds=0", "--alias=a --model-uri=b"])
def test_what_makes_no_sense_is_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        parse(wrong.split(), "serve")
    assert wrong.split("=")[0].split()[0] in capsys.readouterr().err


def test_without_a_registry_it_says_how_to_get_one(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SystemExit, match=r"no mlflow\.db in this folder: create one with `sella run`"):
        main([])
    assert list(tmp_path.iterdir()) == []


def test_sella_serve_hands_its_options_on():
    told = CliRunner().invoke(app, ["serve", "--help"])
    assert told.exit_code == 0
    assert told.output.startswith("usage: sella serve")
    assert "--drain-seconds" in told.output
    refused = CliRunner().invoke(app, ["serve", "--port", "high"])
    assert refused.exit_code == 2
