"""What tuning needs of a GPU, by calculation, for three sizes of backbone: memory, and hours a million labels.

    python -m benchmarks.memory [--write]

Prints a table; `--write` also puts it into docs/operations.md. Nothing is allocated: the models are built of fake
tensors, their parameters are counted, and what autograd would keep of a packed batch is added up tensor by tensor.
Hours are operations over a rate: 2 a weight and token forward, 2 backward (LoRA needs no gradients of the backbone's
weights), 2 more where activations are computed again (after Kaplan et al. 2020, section 2.1, embeddings left out).
Seconds on one core.
"""

from __future__ import annotations

import argparse

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config

from benchmarks._report import REPOSITORY, provenance, replace_block
from sella_rec.config import TuneConfig
from sella_rec.llm.adapter import add_adapter
from sella_rec.llm.scorer import YesNoScorer

_GIB = 2**30
# One packed row: a history of ten titles and sixteen targets, 110 + 16 * 14 tokens, rounded up.
_ROWS, _TARGETS, _LENGTH = 8, 16, 352
# Adam's two moments and the gradient of a float32 weight, bytes.
_ADAM_AND_GRADIENT = 12
# What a data-centre GPU sustains in bfloat16, a third of an H100's peak without sparsity.
_OPERATIONS_A_SECOND = 330e12
BACKBONES: dict[str, tuple[PreTrainedConfig, int]] = {
    "SmolLM2-135M": (
        LlamaConfig(
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            vocab_size=49_152,
            tie_word_embeddings=True,
        ),
        16,
    ),
    "Qwen2-1.5B": (
        Qwen2Config(
            hidden_size=1536,
            intermediate_size=8960,
            num_hidden_layers=28,
            num_attention_heads=12,
            num_key_value_heads=2,
            vocab_size=151_936,
            tie_word_embeddings=True,
        ),
        64,
    ),
    "Qwen2-7B": (
        Qwen2Config(
            hidden_size=3584,
            intermediate_size=18_944,
            num_hidden_layers=28,
            num_attention_heads=28,
            num_key_value_heads=4,
            vocab_size=152_064,
            tie_word_embeddings=False,
        ),
        64,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/operations.md")
    write = parser.parse_args().write
    lines = [
        "| backbone | LoRA rank | weights, bf16 | LoRA, gradients, Adam | activations | with `gradient_checkpointing` |"
        " in all, without / with | hours a million labels, without / with |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [row(name, *backbone) for name, backbone in BACKBONES.items()]
    shape = f"{_ROWS} packed rows of {_LENGTH} tokens, {_ROWS * _TARGETS} labels a step"
    shape += f"; {_OPERATIONS_A_SECOND / 1e12:.0f} TFLOP/s"
    source = f"`python -m benchmarks.memory`, GiB; {shape}. {provenance('no data', [0])}"
    text = "\n".join([*lines, "", source])
    print(text)
    if write:
        replace_block("memory", text, REPOSITORY / "docs" / "operations.md")


def row(name: str, config: PreTrainedConfig, rank: int) -> str:
    """A line of the table, in GiB."""
    with torch.device("meta"):
        llm = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
        tuned = add_adapter(llm.requires_grad_(False), TuneConfig(lora_rank=rank, lora_alpha=16))
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    weights = sum(p.nbytes for p in tuned.parameters() if not p.requires_grad)
    # a fake CPU tensor takes the fused attention that a GPU takes; one on the meta device would keep every score
    with FakeTensorMode():
        _make_fake(tuned)
        kept = activations(tuned)
        tuned.gradient_checkpointing_enable({"use_reentrant": False})
        # beside the layers' inputs, one layer at a time is computed again
        checkpointed = activations(tuned) + kept // config.num_hidden_layers
    adapter = trained * (4 + _ADAM_AND_GRADIENT)
    fixed = weights + adapter
    shown = [weights, adapter, kept, checkpointed]
    totals = f"{(fixed + kept) / _GIB:.1f} / {(fixed + checkpointed) / _GIB:.1f}"
    vocabulary = {id(w): w for w in (llm.get_input_embeddings().weight, llm.get_output_embeddings().weight)}
    computing = sum(p.numel() for p in tuned.parameters() if id(p) not in vocabulary)
    seconds = computing * 1e6 * _LENGTH / _TARGETS / _OPERATIONS_A_SECOND
    hours = " / ".join(f"{operations * seconds / 3600:.2f}" for operations in (4, 6))
    return f"| {name} | {rank} | {' | '.join(f'{value / _GIB:.2f}' for value in shown)} | {totals} | {hours} |"


def _make_fake(llm: torch.nn.Module) -> None:
    made: dict[int, torch.Tensor] = {}
    for module in llm.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                empty = made.setdefault(id(parameter), torch.empty(parameter.shape, dtype=parameter.dtype))
                module._parameters[name] = torch.nn.Parameter(empty, requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def activations(llm: torch.nn.Module) -> int:
    """Bytes that autograd keeps of a forward pass, parameters left out."""
    parameters = {p.untyped_storage()._cdata for p in llm.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    scorer = YesNoScorer(llm, yes_id=1, no_id=2).train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scorer(**_batch())
    return sum(storage.nbytes() for address, storage in kept.items() if address not in parameters)


def _batch() -> dict[str, torch.Tensor]:
    labels = _ROWS * _TARGETS
    return {
        "input_ids": torch.zeros(_ROWS, _LENGTH, dtype=torch.int64),
        "position_ids": torch.zeros(_ROWS, _LENGTH, dtype=torch.int64),
        "segment": torch.zeros(_ROWS, _LENGTH, dtype=torch.int64),
        "answer_row": torch.zeros(labels, dtype=torch.int64),
        "answer_position": torch.zeros(labels, dtype=torch.int64),
    }


if __name__ == "__main__":
    main()
