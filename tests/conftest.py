"""Fixtures that several steps' tests share: a tiny causal LM on disk, and small ratings with planted taste."""

from __future__ import annotations

import csv
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from components.fuse.step import FuseInputs
    from sella_rec.config import Config

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# steps wait a quarter of an hour for a service that is away: tests that ask for that set it
os.environ.setdefault("SELLA_PATIENCE", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
# tests may run in a pod themselves
os.environ.setdefault("SELLA_TERMINATION_LOG", os.devnull + "/none")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="store the losses of tests/golden as the right ones")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes longest first: begun last, it would keep one core busy while the other idles."""
    items.sort(key=lambda item: item.path.parts[-2:] != ("local", "test_run.py"))


_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_GENRES = {
    "space": ("Star", "Moon", "Orbit", "Comet", "Galaxy"),
    "love": ("Heart", "Kiss", "Wedding", "Rose", "Letter"),
    "crime": ("Heist", "Alibi", "Witness", "Vault", "Verdict"),
    "kids": ("Puppy", "Castle", "Candy", "Dragon", "Balloon"),
}
_SECONDS_PER_DAY = 86_400


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """`fresh_store()`: address of an empty MLflow store of one's own; the seconds of making one are spent once."""
    from mlflow import MlflowClient

    empty = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{empty}").search_experiments(max_results=1)

    def copy() -> str:
        return f"sqlite:///{shutil.copy(empty, tmp_path_factory.mktemp('store'))}"

    return copy


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random 2-layer Llama (hidden 64) and a byte-level BPE tokenizer with a ChatML template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("backbone") / "tiny-llama"
    tokenizer = _tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)
    return folder


def _tiny_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    words = [word for genre in _GENRES.values() for word in genre]
    corpus = [f"Liked films: {a}; {b} {a}. Like {b}? Answer Yes or No.\n Yes No" for a in words for b in words]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator([*corpus, *["Yes", "No", " Yes", " No"] * len(corpus)], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    tokenizer.chat_template = _CHATML
    for text in ("Yes", "No", " Yes", " No"):
        assert len(tokenizer.encode(text, add_special_tokens=False)) == 1, text
    return tokenizer


@pytest.fixture(scope="session")
def small_ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `interactions.csv` and `items.csv`: 40 users, each liking two of four genres of 80 films.

    Each user rates about 40 films, one to five stars, once a day from a day of their own on.
    """
    draw = random.Random(0)
    genres = list(_GENRES)
    titles = {item: _title(draw, genres[item % len(genres)]) for item in range(1, 81)}
    folder = tmp_path_factory.mktemp("ratings")
    with (folder / "items.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("item_id", "title"), *titles.items()])
    with (folder / "interactions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("user_id", "item_id", "timestamp", "rating"))
        for user in range(1, 41):
            writer.writerows(_ratings(draw, user, list(titles)))
    return folder


def _title(draw: random.Random, genre: str) -> str:
    words = draw.choices(_GENRES[genre], k=draw.randint(1, 4))
    return " ".join(words)


def _ratings(draw: random.Random, user: int, items: list[int]) -> list[tuple[int, int, int, int]]:
    liked = {user % 4, (user + 1) % 4}
    start = 1_000_000_000 + draw.randrange(365) * _SECONDS_PER_DAY
    rows = []
    for day, item in enumerate(draw.sample(items, draw.randint(36, 44))):
        likes = (item % 4 in liked) != (draw.random() < 0.1)
        stars = draw.choice((4, 5)) if likes else draw.choice((1, 2, 3))
        rows.append((user, item, start + day * _SECONDS_PER_DAY, stars))
    return rows


@pytest.fixture(scope="session")
def tiny_config(tiny_backbone: Path, small_ratings: Path) -> Config:
    """A configuration over the tiny backbone and the small ratings: float32 on the CPU, seconds a step."""
    from sella_rec.config import load_config

    return load_config(
        None,
        [
            f"data.interactions={small_ratings / 'interactions.csv'}",
            f"data.items={small_ratings / 'items.csv'}",
            f"backbone.name={tiny_backbone}",
            "backbone.dtype=float32",
            "backbone.device=cpu",
            "collab.dim=8",
            "collab.mf.max_epochs=10",
            "collab.lightgcn.max_epochs=10",
            "align.hidden=32",
            "align.max_epochs=5",
            "align.align_items=32",
            "tune.learning_rate=3e-3",
            "tune.targets_per_history=4",
            "tune.save_every=10",
            "fuse.targets_per_history=4",
            "fuse.max_labels=200",
        ],
    )


@pytest.fixture(scope="session")
def small_data(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small ratings as prepare-data leaves them."""
    from components.prepare_data.step import prepare_data
    from sella_rec.tracking.tracker import Tracker

    folder = tmp_path_factory.mktemp("small") / "data"
    prepare_data(tiny_config, folder, Tracker())
    return folder


@pytest.fixture(scope="session")
def genre_data(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small ratings with labels that titles alone tell: everybody likes the first two genres, 5 % noise aside."""
    import numpy as np
    import polars as pl

    folder = tmp_path_factory.mktemp("genre") / "data"
    shutil.copytree(small_data, folder)
    for name in ("train", "valid", "test"):
        rows = pl.read_parquet(folder / f"{name}.parquet")
        noise = np.random.default_rng(0).random(rows.height) < 0.05
        label = (rows["item_id"].to_numpy() % 4 < 2) != noise
        rows.with_columns(label=pl.Series(label).cast(pl.Int8)).write_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="session")
def tuned(tiny_config: Config, genre_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tune-llm's folder over `genre_data`."""
    from components.tune_llm.step import tune_llm
    from sella_rec.tracking.tracker import Tracker

    folder = tmp_path_factory.mktemp("tuned")
    tune_llm(tiny_config, genre_data, folder / "output", folder / "checkpoints", Tracker())
    return folder / "output"


@pytest.fixture(scope="session")
def fuse_inputs(
    tiny_config: Config, genre_data: Path, tuned: Path, tmp_path_factory: pytest.TempPathFactory
) -> FuseInputs:
    """What fuse reads, every step before it run for real over `genre_data`."""
    from components.align_collab.step import align_collab
    from components.distill_items.step import distill_items
    from components.fuse.step import FuseInputs
    from components.train_collab.step import train_collab
    from sella_rec.tracking.tracker import Tracker

    folder, tracker = tmp_path_factory.mktemp("steps"), Tracker()
    inputs = FuseInputs(genre_data, folder / "collab", tuned, folder / "semantics", folder / "aligned")
    train_collab(tiny_config, genre_data, inputs.collab, tracker)
    distill_items(tiny_config, genre_data, tuned, inputs.semantics, tracker)
    align_collab(tiny_config, genre_data, inputs.collab, inputs.semantics, inputs.aligned, tracker)
    return inputs


@pytest.fixture(scope="session")
def fused(tiny_config: Config, fuse_inputs: FuseInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that fuse writes from `fuse_inputs`."""
    from components.fuse.step import fuse
    from sella_rec.tracking.tracker import Tracker

    folder = tmp_path_factory.mktemp("fused")
    fuse(tiny_config, fuse_inputs, folder / "bundle", folder / "checkpoints", Tracker())
    return folder / "bundle"
