"""What `images/build` asks of a builder, which a script that writes down its arguments plays."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture
def build(tmp_path):
    """Runs it with variables; the images built, by name with tag: their build of torch."""
    builder, asked = tmp_path / "builder", tmp_path / "asked"
    builder.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    builder.chmod(0o755)

    def run(**variables: str) -> dict[str, str]:
        asked.unlink(missing_ok=True)
        environment = {"PATH": os.environ["PATH"], "BUILDER": str(builder), **variables}
        done = subprocess.run([str(REPOSITORY / "images" / "build")], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return dict(re.findall(r"--tag (\S+) --build-arg ACCELERATOR=(\w+)", asked.read_text()))

    return run


def test_cuda_goes_into_the_image_that_serves_only_where_asked_for(build):
    assert build() == {f"sella-rec:{VERSION}": "cpu", f"sella-rec-serve:{VERSION}": "cpu"}
    assert build(ACCELERATOR="cuda") == {f"sella-rec:{VERSION}-cuda": "cuda", f"sella-rec-serve:{VERSION}": "cpu"}
    both = {"ACCELERATOR": "cuda", "SERVE_ACCELERATOR": "cuda", "TAG": "1.4.2"}
    assert build(**both) == {"sella-rec:1.4.2": "cuda", "sella-rec-serve:1.4.2": "cuda"}
    with_backbone = build(ACCELERATOR="cuda", BACKBONE="./llm", TAG="1.4.2")
    assert with_backbone["sella-rec-backbone:1.4.2"] == "cuda"


def test_an_unknown_build_of_torch_is_refused(build):
    with pytest.raises(AssertionError, match="SERVE_ACCELERATOR=rocm: give cpu or cuda"):
        build(SERVE_ACCELERATOR="rocm")
