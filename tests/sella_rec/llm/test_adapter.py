"""LoRA on a tiny backbone: where it sits, and that what is saved comes back as it was."""

import re

import pytest
import torch

from sella_rec.config import BackboneConfig, TuneConfig
from sella_rec.llm.adapter import add_adapter, load_adapter, save_adapter
from sella_rec.llm.backbone import load_backbone


@pytest.fixture
def llm(tiny_backbone_config):
    return load_backbone(tiny_backbone_config)[0]


def lora_layers(names):
    return {int(re.search(r"layers\.(\d+)\.", name)[1]) for name in names if "lora" in name}


@pytest.mark.parametrize(("lora_layers_config", "expected"), [(None, {0, 1}), (1, {1}), (5, {0, 1})])
def test_only_the_last_layers_are_adapted(llm, lora_layers_config, expected):
    adapted = add_adapter(llm, TuneConfig(lora_layers=lora_layers_config, lora_targets=("q_proj", "down_proj")))
    trainable = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert all("lora" in name and ("q_proj" in name or "down_proj" in name) for name in trainable)
    assert lora_layers(trainable) == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_adapter_comes_back_as_it_was(tiny_backbone, tmp_path, dtype):
    config = BackboneConfig(name=str(tiny_backbone), dtype=dtype, device="cpu")
    llm = add_adapter(load_backbone(config)[0], TuneConfig(lora_rank=4))
    for name, parameter in llm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        assert not parameter.requires_grad or parameter.dtype == torch.float32
    # auto stands for what was measured on the machine that tuned; later steps must not measure again
    save_adapter(llm, config.model_copy(update={"dtype": "auto"}), tmp_path)
    found, _, backbone = load_adapter(tmp_path, "cpu")
    assert backbone == config.model_copy(update={"device": "auto"})
    assert not any(p.requires_grad for p in found.parameters())
    assert not found.training
    ids = torch.tensor([[5, 6, 7]])
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        assert torch.equal(found(ids).logits, llm.eval()(ids).logits)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    assert not list(tmp_path.glob("*.bin"))
