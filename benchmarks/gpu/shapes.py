"""LLMs of a family's shape with random weights, and what their training costs in operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from benchmarks.memory import BACKBONES
from sella_rec.llm.backbone import choose_device, choose_dtype

# NVIDIA's data sheets, dense bfloat16; an H200 computes as an H100 does
PEAK_OPERATIONS_A_SECOND = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}

# what was measured, and its figures by unit
Row = tuple[str, dict[str, float]]


@dataclass(frozen=True)
class Scale:
    """How large everything is: as on a GPU, or for a rehearsal.

    Attributes:
        steps: optimizer steps of each training, the first third not timed.
        histories: for scoring, each with 100 candidates.
        interactions: for the collaborative models.
        seconds: of load for each number of clients.
    """

    rehearsal: bool
    steps: int
    histories: int
    interactions: int
    seconds: float


GPU = Scale(rehearsal=False, steps=18, histories=64, interactions=10_000_000, seconds=10)
REHEARSAL = Scale(rehearsal=True, steps=3, histories=2, interactions=20_000, seconds=2)


def random_llm(name: str, scale: Scale) -> Any:
    """A causal LM of the shape `name` of `benchmarks.memory`, frozen, on the device; tiny in a rehearsal."""
    shape = BACKBONES[name][0]
    device = choose_device("auto")
    with device:
        llm = AutoModelForCausalLM.from_config(
            _tiny(shape) if scale.rehearsal else shape,
            dtype=torch.float32 if scale.rehearsal else choose_dtype("auto", device),
            attn_implementation="sdpa",
        )
    # as `load_backbone` has it
    torch.backends.cuda.enable_cudnn_sdp(False)
    llm.config.use_cache = False
    return llm.requires_grad_(False)


def _tiny(shape: PreTrainedConfig) -> PreTrainedConfig:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return type(shape)(**{**shape.to_dict(), **sizes, **heads, "head_dim": 16, "layer_types": None})


def operations_a_token(llm: Any, length: float) -> float:
    """Floating-point operations of one training pass for a token of a row of `length` tokens.

    2 a weight forward and 2 backward for the frozen ones, which need no gradient of their own, 6 for trained ones
    (Kaplan et al. 2020, arXiv 2001.08361, section 2.1, embeddings and head left out, since two of its rows are used);
    and 12 * layers * width * length for attention (Chowdhery et al. 2022, arXiv 2204.02311, appendix B: full, not
    halved for the mask). Activations computed again are not counted.
    """
    config = llm.config
    outside = {id(weight) for weight in (llm.get_input_embeddings().weight, llm.get_output_embeddings().weight)}
    weights = [p for p in llm.parameters() if id(p) not in outside]
    frozen = sum(p.numel() for p in weights if not p.requires_grad)
    trained = sum(p.numel() for p in weights if p.requires_grad)
    return 4 * frozen + 6 * trained + 12 * config.num_hidden_layers * config.hidden_size * length


def peak_operations() -> float | None:
    """Of this GPU, a second; none where it is not in the table."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak for card, peak in PEAK_OPERATIONS_A_SECOND.items() if card in name.split()), None)


def peak_gib() -> float:
    """Most memory that was allocated on the GPU since the last call, GiB; 0 without one."""
    if not torch.cuda.is_available():
        return 0.0
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return peak


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
