"""The complete SeLLa-Rec model as one folder that loads alone: only the backbone it names is fetched elsewhere.

`adapter/` (peft, with backbone.json), `soft_tokens.safetensors` (tables, semantics with the mean and scale that
standardized them, projections, residual), `items.parquet` (item_id, title, in_train), `users.parquet` (user_id,
in_train, history, seen), ids as text; `config.json`, `data_report.json`, `bundle.json` (format and library versions),
and the training reference of the data, see `sella_rec.data.training_reference`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from safetensors.torch import load_file, save_file

from sella_rec.config import Config
from sella_rec.data.dataset import SPLITS, PreparedData, Split
from sella_rec.data.training_reference import REFERENCE_FILES
from sella_rec.errors import UserError
from sella_rec.llm.adapter import load_adapter
from sella_rec.llm.packing import Packer, Progress
from sella_rec.llm.prompt import PromptBuilder
from sella_rec.llm.scorer import YesNoScorer
from sella_rec.llm.scoring import score_split
from sella_rec.llm.semantics import item_semantics
from sella_rec.llm.soft_tokens import SoftTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 2
DATA_REPORT = "data_report.json"
_FILES = ("adapter", "soft_tokens.safetensors", "items.parquet", "users.parquet", "config.json")
Arm = Literal["sella", "text_only", "collab"]
_LIBRARIES = ("torch", "transformers", "peft", "safetensors")


class BundleError(UserError):
    """The folder is not a bundle this version can read."""


@dataclass(frozen=True)
class Bundle:
    """A loaded model. Ids are text, whatever the data had; index 0 of users and items stands for an unknown one.

    Attributes:
        config: the configuration that it was trained with.
        users: U rows, user_id, in_train, history and seen (lists of item_id, oldest first); row r has index r + 1.
        items: I rows, item_id (none for an item added by its title), title, in_train; row r has index r + 1.
        llm: the tuned causal LM, frozen, on its device; hidden size d.
        prompts: of the I items.
        soft_tokens: of U users and I items, collaborative dimension k, to the LLM's d; on the same device.
    """

    config: Config
    users: pl.DataFrame
    items: pl.DataFrame
    llm: Any
    prompts: PromptBuilder
    soft_tokens: SoftTokens

    def score(self, split: Split, arm: Arm = "sella", progress: Progress | None = None) -> np.ndarray:
        """Logits of P(like), float32 [n], for rows over this bundle's indices.

        Args:
            arm: `text_only` leaves stage 3 out, `collab` is the aligned collaborative model alone.
        """
        if arm == "collab":
            return self.soft_tokens.tables.score_split(split)
        soft_tokens = self.soft_tokens if arm == "sella" else None
        scorer = YesNoScorer(self.llm, self.prompts.yes_id, self.prompts.no_id, soft_tokens)
        packer = Packer(self.prompts, soft_tokens is not None, self.config.fuse.warm_token)
        return score_split(scorer, packer, split, self.config.evaluate.tokens_per_batch, progress)

    def with_new_items(self, items: pl.DataFrame) -> Bundle:
        """The same model over a catalogue that also holds items it was not trained on; other scores do not change.

        A new item has its title in the prompt, semantics that the LLM computes now, and no collaborative vector.

        Args:
            items: item_id (text; null for an item without one) and title. Their indices follow those known here.
        """
        prompts, first = self.prompts.with_new_items(items["title"].to_list()), self.items.height + 1
        token_ids = [prompts.item(first + i) for i in range(items.height)]
        semantics = item_semantics(self.llm, token_ids, self.config.distill.batch_size)
        new = items.select(pl.col("item_id").cast(pl.String), "title", in_train=pl.lit(False))
        soft_tokens = self.soft_tokens.with_new_items(semantics)
        return replace(self, items=pl.concat([self.items, new]), prompts=prompts, soft_tokens=soft_tokens)

    def reindex(self, data: PreparedData, split: Split) -> tuple[Bundle, Split]:
        """A split of another data set as rows that this model can score.

        Users and items are matched by their ids. A user unknown here has index 0, and is scored by the row's history;
        an unknown item is added with its title. Labels, times and `warm` are those of the other data set.

        Returns:
            This model, extended by the unknown items of the split, and the split over its indices.
        """
        used = np.setdiff1d(np.concatenate([split.item, split.history.ravel()]), [0])
        item = _places(data.items["item_id"], self.items["item_id"])
        unknown = used[item[used] == 0]
        item[unknown] = self.items.height + 1 + np.arange(len(unknown))
        user = _places(data.users["user_id"], self.users["user_id"])
        adopted = replace(split, user=user[split.user], item=item[split.item], history=item[split.history])
        if len(unknown) == 0:
            return self, adopted
        return self.with_new_items(data.items.select("item_id", "title")[unknown - 1]), adopted


def _places(ids: pl.Series, known: pl.Series) -> np.ndarray:
    """Index of each id among `known` by their text, from 1; 0 where unknown; int64 [len(ids) + 1], padding first."""
    lookup = pl.DataFrame({"id": known, "index": np.arange(1, len(known) + 1)})
    found = pl.DataFrame({"id": ids.cast(pl.String)}).join(lookup, on="id", how="left", maintain_order="left")
    return np.append(0, found["index"].fill_null(0).to_numpy())


def save_bundle(folder: Path, config: Config, data: PreparedData, adapter: Path, soft_tokens: SoftTokens) -> None:
    """Write a bundle.

    Args:
        folder: a new folder.
        adapter: tune-llm's adapter folder, copied as it is.

    Raises:
        FileExistsError: `folder` exists.
        FileNotFoundError: the adapter, or a file of the prepared data, is missing.
    """
    import shutil

    folder.mkdir(parents=True)
    shutil.copytree(adapter, folder / "adapter")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in soft_tokens.state_dict().items()}
    save_file(state, folder / "soft_tokens.safetensors")
    data.items.cast({"item_id": pl.String}).write_parquet(folder / "items.parquet")
    _users_with_history(data, config.data.history_length).write_parquet(folder / "users.parquet")
    for name in REFERENCE_FILES:
        shutil.copyfile(data.folder / name, folder / name)
    (folder / "config.json").write_text(config.model_dump_json(indent=2))
    (folder / DATA_REPORT).write_text(json.dumps(data.report, indent=2))
    versions = {name: version(name) for name in _LIBRARIES}
    (folder / "bundle.json").write_text(json.dumps({"format": FORMAT, "versions": versions}, indent=2))


def _users_with_history(data: PreparedData, length: int) -> pl.DataFrame:
    """Each user's last liked items over all splits, and every item they rated; ids as text."""
    rows = pl.concat([pl.read_parquet(data.folder / f"{name}.parquet") for name in SPLITS])
    rows = rows.sort("timestamp", maintain_order=True).cast({"item_id": pl.String})
    per_user = rows.group_by("user_id").agg(
        history=pl.col("item_id").filter(pl.col("label") == 1).tail(length), seen=pl.col("item_id")
    )
    users = data.users.join(per_user, on="user_id", how="left", maintain_order="left")
    return users.cast({"user_id": pl.String})


def load_bundle(folder: str | Path, device: str = "auto") -> Bundle:
    """Load a bundle for scoring.

    Raises:
        BundleError: not a bundle, or one of another format.
        BackboneError: the backbone it names cannot be loaded.
    """
    folder = Path(folder)
    check_bundle(folder)
    config = Config.from_json((folder / "config.json").read_text())
    users, items = pl.read_parquet(folder / "users.parquet"), pl.read_parquet(folder / "items.parquet")
    llm, tokenizer, _ = load_adapter(folder / "adapter", device)
    prompts = build_prompts(tokenizer, config, items)
    state = load_file(folder / "soft_tokens.safetensors", str(llm.device))
    soft_tokens = SoftTokens.from_state(state)
    return Bundle(config, users, items, llm, prompts, soft_tokens)


def check_bundle(folder: Path) -> None:
    """Check that a folder is a bundle that can be read, without loading it.

    Raises:
        BundleError: not a bundle, or one of another format.
    """
    try:
        form = json.loads((folder / "bundle.json").read_text())["format"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise BundleError(
            f"{folder} is not a SeLLa-Rec bundle: bundle.json cannot be read ({error}); give a folder that "
            "`sella run` or the step fuse has written"
        ) from error
    if form != FORMAT:
        raise BundleError(f"{folder} has bundle format {form}; this version reads {FORMAT}: train the model again")
    missing = [name for name in _FILES if not (folder / name).exists()]
    if missing:
        raise BundleError(
            f"{folder} is an incomplete SeLLa-Rec bundle, without {', '.join(missing)}: copy it again, or train again"
        )


def build_prompts(tokenizer: PreTrainedTokenizerBase, config: Config, items: pl.DataFrame) -> PromptBuilder:
    """The prompt builder for a catalogue: item_id and title, row r with index r + 1.

    Raises:
        ValueError: `Yes` and `No` begin with the same token under this tokenizer.
    """
    return PromptBuilder(tokenizer, config.prompt, ["", *items["title"].to_list()])
