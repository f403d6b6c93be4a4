"""What a batch is made from, and what its shards need to know."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sella_rec.config import Config
from sella_rec.files import atomic_output


@dataclass(frozen=True)
class BatchPlan:
    """What a batch is made from; on one kind of machine, with as many threads, the same plan gives the same bytes.

    Attributes:
        model: the registered version, for messages; empty for a bundle given as a folder.
        bundle: SHA-256 of the bundle's files.
        code_version: hash of the steps' source.
        top_n: recommendations per user.
        retrieve: candidates per user that the LLM ranks.
        shards: how many parts.
    """

    model: str
    bundle: str
    code_version: str
    top_n: int
    retrieve: int
    shards: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> BatchPlan:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class BatchJob:
    """What `load-champion` passes to the shards.

    Attributes:
        config: the model's own, with the run's device and section recommend: the backbone that it names is the one
            that the shards load.
        folder: where the batch goes.
    """

    config: Config
    plan: BatchPlan
    folder: str

    @property
    def settings(self) -> str:
        """For the steps that come after."""
        return json.dumps({"config": json.loads(self.config.to_json()), "code_version": self.plan.code_version})

    def save(self, file: Path) -> None:
        content = {"config": self.config.to_json(), "plan": self.plan.to_json(), "folder": self.folder}
        with atomic_output(file) as temporary:
            temporary.write_text(json.dumps(content))

    @classmethod
    def load(cls, file: Path) -> BatchJob:
        content = json.loads(file.read_text())
        return cls(Config.from_json(content["config"]), BatchPlan.from_json(content["plan"]), content["folder"])
