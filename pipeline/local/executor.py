"""The process that `sella run` starts: the DAG through kfp.local, one subprocess per step, in this Python.

Its output is kfp's log of the run; what the steps print goes to their own logs.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path

from kfp import local

from components.kfp import IMAGE
from pipeline.dag import build_pipeline
from pipeline.local.run_folder import RunFolder
from sella_rec.runtime.supervision import exit_with_runner


def main(run: RunFolder) -> None:
    """Run the pipeline of a run's request.

    Raises:
        RuntimeError: a step failed.
    """
    exit_with_runner()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s")
    # it warns of what only a cluster supports: resources, environment from pod labels
    warnings.filterwarnings("ignore", module="kfp")
    request = json.loads(run.request.read_text())
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(run.steps),
        enable_caching=True,
        cache_root=str(Path(request["cache"]) / "kfp"),
    )
    build_pipeline(retries=1, backoff="1s", llm_environment={})(image=IMAGE, **request["arguments"])


if __name__ == "__main__":
    main(RunFolder(Path(sys.argv[1])))
