"""The arms of the papers' table: which steps an arm needs, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from components.train_collab.step import MODELS
from sella_rec.config import Config

Kind = Literal["item_mean", "collab", "text_only", "late_fusion", "aligned", "fused", "residual"]

MODEL_NAMES = {"mf": "MF", "lightgcn": "LightGCN"}
# The best of four trials on MovieLens-1M's valid for CoLLM-style; SeLLa-Rec's are the configuration's.
_UNALIGNED = {"aligned": False, "warm_start": False, "rows_per_step": 8, "learning_rate": 5e-4, "gain": 0.3}
# Label, kind, and what stage 3 has of its own. The ablations are of the paper's form: the residual would cover up what
# they lose.
_FUSED: dict[str, tuple[str, Kind, dict[str, Any]]] = {
    "collm": ("CoLLM-style", "fused", _UNALIGNED | {"warm_token": False}),
    "no-alignment": ("SeLLa-Rec, no alignment", "fused", _UNALIGNED),
    "no-warm-start": ("SeLLa-Rec, no warm start", "fused", {"warm_start": False}),
    "no-warm-token": ("SeLLa-Rec, no `<Warm_ID>`", "fused", {"warm_token": False}),
    "sella-paper": ("SeLLa-Rec, the paper's form", "fused", {}),
    "sella": ("**SeLLa-Rec**, with the residual", "residual", {}),
}


@dataclass(frozen=True)
class Arm:
    """A line of the table.

    Attributes:
        name: on the command line and in the results.
        label: in the table.
        kind: what scores; `item_mean`: the mean of the item's train labels, the same for every user; `aligned`: the
            collaborative model as stage 2 leaves it, without an LLM; `fused`: the LLM that reads the special tokens;
            `residual`: the same and the residual.
        model: the collaborative model that scores or is the base; none for the text-only LLM.
        fuse: what differs from the configuration's section fuse.
    """

    name: str
    label: str
    kind: Kind
    model: str | None = None
    fuse: tuple[tuple[str, Any], ...] = ()

    def configure(self, config: Config, seed: int) -> Config:
        """The configuration of this arm's steps."""
        changed: dict[str, Any] = {"seed": seed, "fuse": config.fuse.model_copy(update=dict(self.fuse))}
        if self.model:
            changed["collab"] = config.collab.model_copy(update={"fused_model": self.model})
        return config.model_copy(update=changed)


def _arms() -> list[Arm]:
    arms = [Arm("item-mean", "item's mean label (reference)", "item_mean")]
    arms += [Arm(model, MODEL_NAMES[model], "collab", model) for model in MODELS]
    arms.append(Arm("text-only", "text-only LLM", "text_only"))
    arms += [
        Arm(f"late-fusion-{m}", f"late fusion with {MODEL_NAMES[m]} (reference)", "late_fusion", m) for m in MODELS
    ]
    arms += [Arm(f"aligned-{m}", f"{MODEL_NAMES[m]} as stage 2 leaves it (reference)", "aligned", m) for m in MODELS]
    for name, (label, kind, changes) in _FUSED.items():
        for model in MODELS:
            fuse = tuple(changes.items())
            arms.append(Arm(f"{name}-{model}", f"{label}, {MODEL_NAMES[model]} base", kind, model, fuse))
    return arms


ARMS = {arm.name: arm for arm in _arms()}

# AUC and UAUC on MovieLens-1M as the papers, or other papers quoting them, give them; protocols differ in detail.
PUBLISHED = [
    ("MF", ".6482", ".6361", "CoLLM paper"),
    ("TALLRec (text-only), Vicuna-7B", ".7097", ".6818", "CoLLM paper"),
    ("CoLLM-MF, Vicuna-7B", ".7295", ".6875", "CoLLM paper"),
    ("CoLLM-MF, Qwen2-1.5B", ".7354", ".6950", "CoLLM paper, revision"),
    ("BinLLM, Vicuna-7B", ".7425", ".6956", "BinLLM paper"),
    ("CoLLM, Qwen2-7B", ".7357", ".7179", "SeLLa-Rec paper, second hand"),
    ("SeLLa-Rec, Qwen2-7B", ".7606", ".7464", "SeLLa-Rec paper, second hand"),
    ("SAILRec, 7B", ".7571", "", "arXiv 2606.04514, second hand"),
]
