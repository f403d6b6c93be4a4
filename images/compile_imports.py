"""Compiles, for a root file system that is read-only, the modules that a step or server imports when it starts.

Only those: of transformers' thousands of modules a model needs a handful, and the rest would be 200 MB. Importing them
also shows that nothing was trimmed that is needed. python compile_imports.py train|serve
"""

import importlib
import py_compile
import sys
from importlib.util import cache_from_source
from pathlib import Path

MODEL = """
    peft polars pandas pydantic safetensors.torch torch transformers transformers.pytorch_utils
    transformers.models.auto transformers.models.llama.modeling_llama transformers.models.qwen2.modeling_qwen2
    transformers.models.gemma3.modeling_gemma3 mlflow mlflow.pyfunc psutil yaml
"""
IMPORTS = {
    "train": MODEL
    + """
    fsspec jinja2 kfp.compiler kfp.dsl.executor_main matplotlib.backends.backend_svg mlflow.data.polars_dataset pooch
    pyarrow.parquet rich.progress s3fs sklearn.decomposition sklearn.linear_model sklearn.metrics transformers.trainer
    typer
    """,
    "serve": MODEL
    + """
    alembic boto3 mlflow.cli mlflow.pyfunc.scoring_server mlflow.models.cli mlflow.server mlflow.server.auth psycopg
    sqlalchemy.dialects.postgresql.psycopg uvicorn.workers
    """,
}


def main(image: str) -> None:
    for name in IMPORTS[image].split():
        importlib.import_module(name)
    # some modules are made at run time and only say that they are files
    files = {Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
    sources = sorted(file for file in files - {Path(__file__)} if file.suffix == ".py" and file.is_file())
    for source in sources:
        # the image's files never change, so nothing has to compare times
        py_compile.compile(str(source), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    size = sum(Path(cache_from_source(str(source))).stat().st_size for source in sources)
    print(f"{image}: {len(sources)} modules compiled, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1])
