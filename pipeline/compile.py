"""Compiles the pipelines to the files that Kubeflow Pipelines runs."""

from __future__ import annotations

from pathlib import Path

from kfp.compiler import Compiler

from pipeline import dag, recommend_dag
from pipeline.steps import PIPELINES
from sella_rec.files import atomic_output

_BUILDERS = {"train": dag.build_pipeline, "recommend": recommend_dag.build_pipeline}
FILES = {"train": "pipeline.yaml", "recommend": "recommend.yaml"}
# how the compiler begins each
BEGINS = {pipeline: f"# PIPELINE DEFINITION\n# Name: {name}\n" for pipeline, name in PIPELINES.items()}


def compile_pipeline(output: Path, pipeline: str = "train") -> None:
    """Write a pipeline's specification: the same bytes from the same code.

    Args:
        pipeline: a key of `pipeline.PIPELINES`.
    """
    with atomic_output(output) as file:
        # the compiler looks at the name's end for the format
        compiled = file.with_suffix(".yaml")
        Compiler().compile(_BUILDERS[pipeline](), str(compiled))
        compiled.rename(file)
