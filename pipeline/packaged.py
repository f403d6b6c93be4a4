"""The configurations included in the package, by name."""

from pathlib import Path

PACKAGED = {path.stem: path for path in sorted(Path(__file__).with_name("configs").glob("*.yaml"))}
