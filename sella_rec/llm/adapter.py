"""The tuned LLM on disk: a peft adapter beside a note of the backbone and dtype it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sella_rec.config import BackboneConfig, TuneConfig
from sella_rec.llm.backbone import load_backbone

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BACKBONE_FILE = "backbone.json"


def add_adapter(llm: PreTrainedModel, config: TuneConfig) -> PeftModel:
    """Wrap a frozen LLM with fresh LoRA weights (float32, whatever the backbone's dtype)."""
    from peft import LoraConfig, TaskType, get_peft_model

    layers = None
    if config.lora_layers is not None:
        depth = llm.config.num_hidden_layers
        layers = list(range(max(0, depth - config.lora_layers), depth))
    lora = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=list(config.lora_targets),
        layers_to_transform=layers,
    )
    return get_peft_model(llm, lora)


def save_adapter(llm: PeftModel, backbone: BackboneConfig, folder: Path) -> None:
    """Write adapter weights (safetensors) and the backbone with its resolved dtype: later steps must use the same."""
    # peft would write the local folder that the backbone was read from
    llm.peft_config["default"].base_model_name_or_path = backbone.name
    llm.save_pretrained(str(folder), safe_serialization=True)
    dtype = str(llm.get_input_embeddings().weight.dtype).removeprefix("torch.")
    resolved = BackboneConfig.model_validate({**backbone.model_dump(), "dtype": dtype, "device": "auto"})
    (folder / _BACKBONE_FILE).write_text(resolved.model_dump_json(indent=2))


def load_adapter(
    folder: Path, device: str = "auto", sharded: bool = False
) -> tuple[Any, PreTrainedTokenizerBase, BackboneConfig]:
    """Load the tuned LLM, frozen, with its tokenizer and the backbone that it needs.

    Args:
        folder: what `save_adapter` wrote.
        device: `auto` or a torch device, in place of the saved one.
        sharded: as in `load_backbone`.

    Raises:
        BackboneError: the backbone cannot be loaded.
        FileNotFoundError: `folder` holds no backbone.json.
        ValueError: its backbone.json is invalid, or it holds no peft adapter.
    """
    from peft import PeftModel

    saved = BackboneConfig.model_validate_json((folder / _BACKBONE_FILE).read_text())
    backbone = saved.model_copy(update={"device": device})
    llm, tokenizer = load_backbone(backbone, sharded)
    # in the backbone's dtype: it is not trained further, and autocast would round float32 to it in every pass
    tuned = PeftModel.from_pretrained(llm, folder, autocast_adapter_dtype=False).requires_grad_(False).eval()
    for module in tuned.modules():
        # the Trainer puts the LLM into train mode, which gradient checkpointing needs; its scores must not change
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return tuned, tokenizer, saved
