"""The names of the pipelines and of their steps."""

# The pipelines, as Kubeflow Pipelines knows them.
PIPELINES = {"train": "sella-rec", "recommend": "sella-rec-recommend"}

# What each step of the first builds on; a test holds it against the compiled DAG, which takes seconds to import.
BUILDS_ON: dict[str, tuple[str, ...]] = {
    "configure": (),
    "find-champion": ("configure",),
    "prepare-data": ("configure",),
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
