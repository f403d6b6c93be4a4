"""Compiles the DAG to the file that Kubeflow Pipelines runs."""

from __future__ import annotations

from pathlib import Path

from kfp.compiler import Compiler

from components.core.paths import atomic_output
from pipeline.dag import build_pipeline

OUTPUT = Path("pipeline.yaml")


def compile_pipeline(output: Path = OUTPUT) -> None:
    """Write the pipeline's specification: the same bytes from the same code."""
    with atomic_output(output) as file:
        # the compiler looks at the name's end for the format
        compiled = file.with_suffix(".yaml")
        Compiler().compile(build_pipeline(), str(compiled))
        compiled.rename(file)
