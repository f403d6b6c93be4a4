"""The DAG, its compilation, its local run, and the command line."""

from pathlib import Path

# The configurations that come with the package, by name.
PACKAGED = {path.stem: path for path in sorted(Path(__file__).with_name("configs").glob("*.yaml"))}

# What each step builds on; a test holds it against the compiled DAG, which takes seconds to import.
BUILDS_ON: dict[str, tuple[str, ...]] = {
    "prepare-data": (),
    "train-collab": ("prepare-data",),
    "tune-llm": ("prepare-data",),
    "distill-items": ("tune-llm",),
    "align-collab": ("train-collab", "distill-items"),
    "fuse": ("align-collab",),
    "evaluate": ("fuse",),
    "promote": ("evaluate",),
}
STEPS = tuple(BUILDS_ON)
