"""The model card of a registered version in Markdown: what it is, how good it is, its intended use and limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sella_rec.config import Config
from sella_rec.llm.backbone import EMBEDDED

_ARMS = {"mf": "MF", "lightgcn": "LightGCN", "text_only": "text-only LLM", "sella": "**SeLLa-Rec**"}
_MOVIELENS = "MovieLens, by GroupLens: no commercial use without permission; acknowledge the source"
_DATA_LICENCES = {
    "embedded:movielens": _MOVIELENS,
    "movielens-1m": _MOVIELENS,
    "amazon-book": "Amazon reviews 2018, by UCSD: for research; no licence stated",
}


def model_card(config: Config, data: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The card of a model.

    Args:
        config: of its training.
        data: the data report.
        summary: evaluate's summary.
    """
    return "\n\n".join(
        [
            f"# {config.promote.model_name}",
            "P(like) of items for users, from titles (an LLM) and from who liked what (collaborative filtering): "
            "SeLLa-Rec, arXiv 2504.10107.",
            _model(config),
            _data(config, data),
            _figures(summary),
            _use(config, summary),
            _licences(config),
        ]
    )


def _model(config: Config) -> str:
    revision = f", revision {config.backbone.revision}" if config.backbone.revision else ""
    residual = "the LLM's logit plus a weighted collaborative score" if config.fuse.residual else "the LLM's logit"
    return (
        f"## Model\n\nBackbone `{config.backbone.name}`{revision}, LoRA of rank {config.tune.lora_rank}; collaborative "
        f"model {config.collab.fused_model}, {config.collab.dim} dimensions; final score: {residual}. "
        f"Prompts hold up to {config.data.history_length} liked titles; seed {config.seed}."
    )


def _data(config: Config, data: Mapping[str, Any]) -> str:
    lines = [
        f"## Data\n\n`{data['interactions']}`: {data['rows']:,} ratings, {data['users']:,} users, "
        f"{data['items_kept']:,} items; {data['like_share']:.0%} of the ratings are likes. "
        f"Split {config.data.split}.\n",
        "| split | rows | users | likes | cold rows | from | until |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for name in ("train", "valid", "test"):
        part = {key: data[f"{name}_{key}"] for key in ("rows", "users", "like_share", "cold_rows", "from", "until")}
        lines.append(
            f"| {name} | {part['rows']:,} | {part['users']:,} | {part['like_share']:.0%} | {part['cold_rows']:,} "
            f"| {part['from'][:10]} | {part['until'][:10]} |"
        )
    return "\n".join(lines)


def _figures(summary: Mapping[str, Any]) -> str:
    lines = [
        f"## Figures\n\nOn {summary['arms']['sella']['all']['rows']:,} test rows, which no setting was chosen on; 95 % "
        "intervals from a bootstrap over users. AUC over all rows, UAUC the mean over users; cold: user or item not in "
        "train.\n",
        "| arm | AUC | UAUC | warm UAUC | cold UAUC | NDCG | MAP |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for arm, name in _ARMS.items():
        slices = summary["arms"][arm]
        whole = slices["all"]
        cells = [
            _measured(whole, "auc"),
            *(_measured(slices[part], "uauc") for part in ("all", "warm", "cold")),
            *(_number(whole[metric]) for metric in ("ndcg", "map")),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append("")
    for arm, name in _ARMS.items():
        if arm != "sella":
            paired = summary["paired"][f"sella-vs-{arm}"]
            lines.append(f"- UAUC against {name}: {_number(paired['uauc_diff'], '+')}{_interval(paired['ci'], '+')}")
    return "\n".join(lines)


def _use(config: Config, summary: Mapping[str, Any]) -> str:
    cold = summary["arms"]["sella"]["cold"]
    return (
        "## Intended use\n\n"
        "Ranking items of this catalogue, and new items by their titles, for users of this service. "
        "Users unknown to the model are scored by the liked items in the request.\n\n"
        "## Limits\n\n"
        "- Scores are meant to order one user's items; as probabilities they are as good as the report's calibration.\n"
        f"- Results for cold users and items rest on {cold['rows']:,} test rows and {cold['users']:,} users with both "
        "classes; the fewer, the less certain.\n"
        "- It reproduces biases of its data, such as popularity and who rated. Fairness was not addressed.\n"
        "- Of an item it reads the title only, and titles in requests go into the LLM's prompt.\n"
        "- Not for decisions about people."
    )


def _licences(config: Config) -> str:
    data = _DATA_LICENCES.get(config.data.interactions, "your own data, on your own terms")
    return f"## Licences\n\n- Backbone: {backbone_licence(config.backbone.name)}\n- Data: {data}"


def backbone_licence(name: str) -> str:
    """What is known of a backbone's licence: the packaged one's, or what the card in its folder says."""
    if name == EMBEDDED:
        return "SmolLM2, Apache-2.0"
    card = Path(name) / "README.md"
    if card.is_file():
        for line in card.read_text(errors="replace").split("---")[1:2]:
            found = [entry.partition(":")[2].strip() for entry in line.splitlines() if entry.startswith("license:")]
            if found:
                return f"`{name}`, {found[0]} according to its card"
    return f"`{name}`: not stated with the files; see its publisher's page"


def _measured(part: Mapping[str, Any], metric: str) -> str:
    return f"{_number(part[metric])}{_interval(part[f'{metric}_ci'])}"


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.4f}"


def _interval(ends: Any, sign: str = "") -> str:
    return "" if ends is None or None in ends else f" ({ends[0]:{sign}.4f} to {ends[1]:{sign}.4f})"
