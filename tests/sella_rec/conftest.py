"""A lively tiny LLM, prompts over a dozen titles, random rows, and stage 3 computed by hand."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sella_rec.collab.tables import CollabTables
from sella_rec.config import BackboneConfig, PromptConfig
from sella_rec.data.dataset import Split
from sella_rec.llm.projection import Projection
from sella_rec.llm.prompt import PromptBuilder
from sella_rec.llm.soft_tokens import SoftTokens
from tests.mlflow_on_s3 import mlflow_on_s3
from tests.registering import NAME, register_bundle

N_USERS, N_ITEMS, DIM = 6, 12, 5
WORDS = ("Star", "Heart", "Heist", "Puppy", "Moon Orbit", "Wedding Letter Rose", "Vault")
TITLES = ["", *(f"{WORDS[i % len(WORDS)]} {'again ' * (i % 3)}{i}" for i in range(1, N_ITEMS + 1))]


class ForeignFolder:
    """A folder that another account owns, as a fresh volume is another's."""

    def __init__(self, path: Path):
        self.path, self.user = path, os.geteuid() or 10001

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Meanwhile this process may not write there; root, whom nothing refuses, is another user."""
        self.path.chmod(0o555)
        before = os.geteuid()
        if before == 0:
            os.seteuid(self.user)
        try:
            yield
        finally:
            os.seteuid(before)
            self.path.chmod(0o755)


@pytest.fixture
def foreign_folder() -> Iterator[ForeignFolder]:
    # pytest's own folders are closed to other users
    path = Path(tempfile.mkdtemp())
    yield ForeignFolder(path)
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def far_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server with a champion, whose bucket only the server can reach."""
    import mlflow

    from sella_rec.tracking.server import prepare_client

    folder = tmp_path_factory.mktemp("far")
    (folder / "bundle").mkdir()
    (folder / "bundle" / "weights").write_bytes(b"weights" * 1000)
    with pytest.MonkeyPatch.context() as patch, mlflow_on_s3(folder) as url:
        patch.setenv("MLFLOW_TRACKING_URI", url)
        prepare_client()
        client = mlflow.MlflowClient(url)
        client.create_experiment(NAME)
        register_bundle(url, folder / "bundle", folder)
        client.set_registered_model_alias(NAME, "champion", "1")
        mlflow.set_tracking_uri(None)
        yield url


@pytest.fixture
def far_client(far_registry: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow's client of `far_registry`, while this process tracks there with none of MLflow's settings made yet."""
    import mlflow

    from sella_rec.tracking.server import CLIENT_DEFAULTS

    for name in CLIENT_DEFAULTS:
        # what the code under test sets is gone after the test, too
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", far_registry)
    mlflow.set_tracking_uri(far_registry)
    yield mlflow.MlflowClient(far_registry)
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="session")
def tokenizer(tiny_backbone: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_backbone)


@pytest.fixture
def prompts(tokenizer: Any) -> PromptBuilder:
    return PromptBuilder(tokenizer, PromptConfig(max_title_tokens=8), TITLES)


@pytest.fixture
def lively_llm(tiny_backbone: Path) -> Any:
    """The tiny LLM with weights so large that every token matters: at random initialisation no score would move."""
    from transformers import AutoModelForCausalLM

    llm = AutoModelForCausalLM.from_pretrained(tiny_backbone, dtype=torch.float32).requires_grad_(False).eval()
    for name, parameter in llm.named_parameters():
        if "norm" not in name:
            parameter.mul_(8)
    return llm


@pytest.fixture
def tiny_backbone_config(tiny_backbone: Path) -> BackboneConfig:
    return BackboneConfig(name=str(tiny_backbone), dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def random_split() -> Callable[..., Split]:
    """`random_split(users, rows, seed)`: each user's rows in time; a history is what they liked before the row."""

    def make(users: int = N_USERS, rows: int = 9, seed: int = 0, length: int = 4) -> Split:
        draw, made = np.random.default_rng(seed), []
        for user in range(1, users + 1):
            liked: list[int] = []
            for time in range(int(draw.integers(1, rows + 1))):
                item, label = int(draw.integers(1, N_ITEMS + 1)), int(draw.integers(2))
                history = liked[-length:]
                made.append((user, item, label, time, history + [0] * (length - len(history))))
                liked += [item] * label
        user, item, label, time, history = zip(*made, strict=True)
        return Split(
            user=np.array(user),
            item=np.array(item),
            label=np.array(label, dtype=np.float32),
            timestamp=np.array(time),
            history=np.array(history),
            warm=np.ones(len(made), dtype=bool),
        )

    return make


@pytest.fixture
def soft_tokens(lively_llm: Any) -> SoftTokens:
    """Stage 3 with every weight random; the last user and the last two items are unseen in train."""
    draw, hidden = torch.Generator().manual_seed(1), lively_llm.config.hidden_size

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    user_vectors, item_vectors = normal(N_USERS + 1, DIM), normal(N_ITEMS + 1, DIM)
    seen = torch.ones(N_USERS + 1, dtype=torch.bool)
    seen[[0, N_USERS]] = False
    user_vectors[~seen], item_vectors[[0, -2, -1]] = 0, 0
    biases = normal(N_USERS + 1), normal(N_ITEMS + 1), normal(1)[0]
    tables = CollabTables(user_vectors, item_vectors, *biases, user_in_train=seen, fold_in_scale=torch.tensor(0.7))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        semantics = torch.cat([torch.zeros(1, hidden), normal(N_ITEMS, hidden) * 3 + 5])
        norm = lively_llm.get_input_embeddings().weight.norm(dim=1).mean().item()
        soft = SoftTokens(tables, semantics, Projection(DIM, 16, hidden), norm, gain=0.5)
    with torch.no_grad():
        soft.gain.copy_(torch.tensor([0.5, 1.5, 0.8]))
        soft.set_residual(0.9, 0.4, -0.2)
        # trained copies differ from the tables, which the residual continues to use
        soft.user_vectors.add_(0.1)
        soft.item_vectors.mul_(1.1)
    return soft


class ByHand:
    """Stage 3 written out for one row at a time, from the weights alone."""

    def __init__(self, soft: SoftTokens):
        self.w = {name: tensor.detach().double() for name, tensor in soft.state_dict().items()}

    def _project(self, vector: torch.Tensor) -> torch.Tensor:
        inner = vector @ self.w["projection.0.weight"].T + self.w["projection.0.bias"]
        gelu = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
        return gelu @ self.w["projection.2.weight"].T + self.w["projection.2.bias"]

    def _to_norm(self, vector: torch.Tensor, gain: int) -> torch.Tensor:
        return vector / vector.square().sum().sqrt() * self.w["token_norm"] * self.w["gain"][gain]

    def user_vector(self, user: int, history: np.ndarray, prefix: str = "") -> torch.Tensor:
        if self.w["tables.user_in_train"][user]:
            return self.w[f"{prefix}user_vectors"][user]
        liked = [self.w[f"{prefix}item_vectors"][item] for item in history if item]
        mean = sum(liked) / len(liked) if liked else torch.zeros_like(self.w["user_vectors"][0])
        return self.w["tables.fold_in_scale"] * mean

    def user_token(self, user: int, history: np.ndarray) -> torch.Tensor:
        return self._to_norm(self._project(self.user_vector(user, history)), 0)

    def item_token(self, item: int) -> torch.Tensor:
        return self._to_norm(self._project(self.w["item_vectors"][item]), 1)

    def warm_token(self, item: int) -> torch.Tensor:
        projected = self.w["semantics"][item] @ self.w["warm_projection.weight"].T + self.w["warm_projection.bias"]
        return self._to_norm(projected, 2)

    def combine(self, logit: float, user: int, item: int, history: np.ndarray) -> float:
        product = self.user_vector(user, history, "tables.") @ self.w["tables.item_vectors"][item]
        biases = self.w["tables.user_bias"][user] + self.w["tables.item_bias"][item] + self.w["tables.global_bias"]
        collab = product + biases
        return float(self.w["llm_weight"] * logit + self.w["collab_weight"] * collab + self.w["bias"])


@pytest.fixture
def by_hand(soft_tokens: SoftTokens) -> ByHand:
    return ByHand(soft_tokens)
