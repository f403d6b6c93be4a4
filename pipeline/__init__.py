"""The DAG, its compilation, its local run, and the command line."""

from pathlib import Path

# The configurations that come with the package, by name.
PACKAGED = {path.stem: path for path in sorted(Path(__file__).with_name("configs").glob("*.yaml"))}

# The pipelines, as Kubeflow Pipelines knows them.
PIPELINES = {"train": "sella-rec", "recommend": "sella-rec-recommend"}

# What each step of the first builds on; a test holds it against the compiled DAG, which takes seconds to import.
BUILDS_ON: dict[str, tuple[str, ...]] = {
    "find-champion": (),
    "prepare-data": (),
    "check-drift": ("find-champion", "prepare-data"),
    "train-collab": ("check-drift",),
    "tune-llm": ("check-drift",),
    "distill-items": ("tune-llm",),
    "align-collab": ("train-collab", "distill-items"),
    "fuse": ("align-collab",),
    "evaluate": ("fuse",),
    "score-champion": ("check-drift",),
    "promote": ("evaluate", "score-champion"),
}
STEPS = tuple(BUILDS_ON)
RECOMMEND_STEPS = ("load-champion", "recommend", "summarize")
