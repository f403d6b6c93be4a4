"""The projection is the paper's two layers, and its weights survive the disk."""

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import gelu

from sella_rec.llm.projection import Projection


def test_is_linear_gelu_linear():
    torch.manual_seed(0)
    projection, x = Projection(4, 16, 9), torch.randn(3, 4)
    first, _, last = projection
    expected = gelu(x @ first.weight.T + first.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(projection(x), expected)
    assert projection(x).shape == (3, 9)


def test_round_trip(tmp_path):
    projection, again = Projection(4, 16, 9), Projection(4, 16, 9)
    save_file(projection.state_dict(), tmp_path / "projection.safetensors")
    again.load_state_dict(load_file(tmp_path / "projection.safetensors"))
    x = torch.randn(3, 4)
    assert torch.equal(again(x), projection(x))
