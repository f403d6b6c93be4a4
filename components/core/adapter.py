"""The tuned LLM on disk: a peft adapter beside a note of the backbone and dtype it was trained on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from components.core.backbone import load_backbone
from components.core.config import BackboneConfig, TuneConfig

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BACKBONE_FILE = "backbone.json"
_TUNED, _FUSED = "default", "fused"
_switching = threading.Lock()


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
    folder: Path, device: str = "auto", sharded: bool = False, trainable: bool = False
) -> tuple[Any, PreTrainedTokenizerBase, BackboneConfig]:
    """The tuned LLM with its tokenizer and the backbone it needs.

    Args:
        folder: of `save_adapter`.
        device: as in `BackboneConfig`.
        sharded: as in `load_backbone`.
        trainable: LoRA's weights are to be trained on, in float32; else they are frozen, in the backbone's dtype.
    """
    from peft import PeftModel

    saved = BackboneConfig.model_validate_json((folder / _BACKBONE_FILE).read_text())
    backbone = saved.model_copy(update={"device": device})
    llm, tokenizer = load_backbone(backbone, sharded)
    # frozen: autocast would round float32 to the backbone's dtype anew in every pass
    tuned = PeftModel.from_pretrained(llm, folder, autocast_adapter_dtype=trainable, is_trainable=trainable).eval()
    if not trainable:
        tuned.requires_grad_(False)
    for module in tuned.modules():
        # the same answers whatever mode the Trainer puts it into; gradient checkpointing needs train mode
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return tuned, tokenizer, saved


def add_fused_adapter(llm: PeftModel, folder: Path) -> None:
    """Put LoRA as stage 3 has trained it on beside that of stage 1, which stays the one in use."""
    llm.load_adapter(str(folder), _FUSED, autocast_adapter_dtype=False)
    llm.requires_grad_(False).eval()


@contextmanager
def adapter_in_use(llm: Any, fused: bool) -> Iterator[None]:
    """Have an LLM answer with LoRA of stage 3, or of stage 1; one thread at a time, where it has both."""
    if _FUSED not in llm.peft_config:
        yield
        return
    with _switching:
        llm.set_adapter(_FUSED if fused else _TUNED, inference_mode=True)
        yield
