"""The complete SeLLa-Rec model as one folder that loads alone: only the backbone it names is fetched elsewhere.

`adapter/` (peft, with backbone.json), `soft_tokens.safetensors` (tables, semantics, projections, residual),
`items.parquet` (item_id, title, in_train), `users.parquet` (user_id, in_train, history, seen), `config.json`,
`bundle.json` (format and library versions).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file, save_file

from components.core.adapter import load_adapter
from components.core.collab import CollabTables
from components.core.config import Config
from components.core.dataset import SPLITS, PreparedData, Split
from components.core.packing import Packer, Progress
from components.core.projection import Projection
from components.core.prompt import PromptBuilder
from components.core.scorer import YesNoScorer, score_split
from components.core.soft_tokens import SoftTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 1
_FILES = ("adapter", "soft_tokens.safetensors", "items.parquet", "users.parquet", "config.json")
_LIBRARIES = ("torch", "transformers", "peft", "safetensors")


class BundleError(RuntimeError):
    """The folder is not a bundle this version can read, or it does not know what was asked for."""


@dataclass
class Bundle:
    """A loaded model; index 0 of users and items stands for an unknown one."""

    config: Config
    users: pl.DataFrame
    items: pl.DataFrame
    llm: Any
    prompts: PromptBuilder
    soft_tokens: SoftTokens

    def score(
        self, split: Split, arm: Literal["sella", "text_only"] = "sella", progress: Progress | None = None
    ) -> np.ndarray:
        """Logits of P(like), float32 [n], for rows over this bundle's indices; `text_only` leaves stage 3 out."""
        soft_tokens = self.soft_tokens if arm == "sella" else None
        scorer = YesNoScorer(self.llm, self.prompts.yes_id, self.prompts.no_id, soft_tokens)
        packer = Packer(self.prompts, soft_tokens is not None, self.config.fuse.warm_token)
        return score_split(scorer, packer, split, self.config.evaluate.tokens_per_batch, progress)

    def probabilities(self, user_id: Any, item_ids: list[Any]) -> np.ndarray:
        """P(like), float32 [n], of items for one user with the newest history known here.

        Raises:
            BundleError: the user or an item is not in the bundle.
        """
        return 1 / (1 + np.exp(-self.score(self.pairs(user_id, item_ids))))

    def pairs(self, user_id: Any, item_ids: list[Any]) -> Split:
        """Rows asking about items for one user with the newest history known here.

        Raises:
            BundleError: the user or an item is not in the bundle.
        """
        user = _index(self.users["user_id"], [user_id], "user_id")[0]
        items = _index(self.items["item_id"], item_ids, "item_id")
        liked = self.users["history"][int(user) - 1]
        history = _index(self.items["item_id"], liked.to_list(), "item_id")
        n = len(items)
        return Split(
            user=np.full(n, user),
            item=items,
            label=np.zeros(n, dtype=np.float32),
            timestamp=np.zeros(n, dtype=np.int64),
            history=np.tile(history if len(history) else np.zeros(1, dtype=np.int64), (n, 1)),
            warm=np.zeros(n, dtype=bool),
        )

    def recommend(self, user_id: Any, n: int = 10, candidates: int = 100) -> pl.DataFrame:
        """The `n` best unseen items: candidates by collaborative score, ranked by SeLLa-Rec.

        Returns:
            item_id, title, score (probability), best first.
        """
        user = _index(self.users["user_id"], [user_id], "user_id")
        seen = set(self.users["seen"][int(user[0]) - 1].to_list())
        unseen = self.items.filter(~pl.col("item_id").is_in(list(seen)))
        split = self.pairs(user_id, unseen["item_id"].to_list())
        collab = self.soft_tokens.tables.score_split(split)
        chosen = np.argsort(-collab, kind="stable")[: max(n, candidates)]
        scores = 1 / (1 + np.exp(-self.score(split.take(chosen))))
        ranked = unseen[chosen].select("item_id", "title").with_columns(score=pl.Series(scores))
        return ranked.sort("score", descending=True, maintain_order=True).head(n)


def _index(known: pl.Series, wanted: list[Any], field: str) -> np.ndarray:
    lookup = pl.DataFrame({field: known, "index": np.arange(1, len(known) + 1)})
    asked = pl.DataFrame({field: pl.Series(wanted, strict=False).cast(known.dtype, strict=False)})
    found = asked.join(lookup, on=field, how="left", maintain_order="left")["index"]
    if found.null_count():
        missing = [w for w, f in zip(wanted, found.to_list(), strict=True) if f is None]
        raise BundleError(
            f"{field} {missing[0]!r} is not known to this model ({len(known)} known, {known[0]!r} for one)"
        )
    return found.cast(pl.Int64).to_numpy()


def save_bundle(folder: Path, config: Config, data: PreparedData, adapter: Path, soft_tokens: SoftTokens) -> None:
    """Write a bundle; `adapter` is tune-llm's adapter folder, copied as it is."""
    import shutil

    folder.mkdir(parents=True)
    shutil.copytree(adapter, folder / "adapter")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in soft_tokens.state_dict().items()}
    save_file(state, folder / "soft_tokens.safetensors")
    data.items.write_parquet(folder / "items.parquet")
    _users_with_history(data, config.data.history_length).write_parquet(folder / "users.parquet")
    (folder / "config.json").write_text(config.model_dump_json(indent=2))
    versions = {name: version(name) for name in _LIBRARIES}
    (folder / "bundle.json").write_text(json.dumps({"format": FORMAT, "versions": versions}, indent=2))


def _users_with_history(data: PreparedData, length: int) -> pl.DataFrame:
    """Each user's last liked items over all splits, and every item they rated."""
    rows = pl.concat([pl.read_parquet(data.folder / f"{name}.parquet") for name in SPLITS])
    rows = rows.sort("timestamp", maintain_order=True)
    per_user = rows.group_by("user_id").agg(
        history=pl.col("item_id").filter(pl.col("label") == 1).tail(length), seen=pl.col("item_id")
    )
    return data.users.join(per_user, on="user_id", how="left", maintain_order="left")


def load_bundle(folder: str | Path, device: str = "auto") -> Bundle:
    """Load a bundle for scoring.

    Raises:
        BundleError: not a bundle, or one of a newer format.
        BackboneError: the backbone it names cannot be loaded.
    """
    folder = Path(folder)
    try:
        form = json.loads((folder / "bundle.json").read_text())["format"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise BundleError(f"{folder} is not a SeLLa-Rec bundle: bundle.json cannot be read ({error})") from error
    if form != FORMAT:
        raise BundleError(f"{folder} has bundle format {form}; this version reads {FORMAT}")
    missing = [name for name in _FILES if not (folder / name).exists()]
    if missing:
        raise BundleError(f"{folder} is an incomplete SeLLa-Rec bundle: it lacks {', '.join(missing)}")
    config = Config.from_json((folder / "config.json").read_text())
    users, items = pl.read_parquet(folder / "users.parquet"), pl.read_parquet(folder / "items.parquet")
    llm, tokenizer, _ = load_adapter(folder / "adapter", device)
    prompts = build_prompts(tokenizer, config, items)
    state = load_file(folder / "soft_tokens.safetensors")
    soft_tokens = _restore(state, config).to(llm.get_input_embeddings().weight.device).eval()
    return Bundle(config, users, items, llm, prompts, soft_tokens)


def build_prompts(tokenizer: PreTrainedTokenizerBase, config: Config, items: pl.DataFrame) -> PromptBuilder:
    """The prompt builder for a catalogue with columns item_id and title."""
    return PromptBuilder(tokenizer, config.prompt, ["", *items["title"].to_list()])


def _restore(state: dict[str, torch.Tensor], config: Config) -> SoftTokens:
    tables = CollabTables(
        **{name.removeprefix("tables."): t for name, t in state.items() if name.startswith("tables.")}
    )
    dim, hidden = tables.user_vectors.shape[1], state["semantics"].shape[1]
    projection = Projection(dim, config.align.hidden, hidden)
    soft_tokens = SoftTokens(tables, state["semantics"], projection, 1.0, 1.0, config.fuse.residual)
    soft_tokens.load_state_dict(state)
    return soft_tokens.requires_grad_(False)
