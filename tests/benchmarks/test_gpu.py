"""The GPU benchmark: its count of operations, and what is kept of a part that is stopped."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.shapes import REHEARSAL, operations_a_token, random_llm
from sella_rec.config import TuneConfig
from sella_rec.llm.adapter import add_adapter
from sella_rec.llm.scorer import decoder_of


@pytest.mark.parametrize("shape", ["SmolLM2-135M", "Qwen2-7B"])
def test_operations_are_those_that_torch_counts(shape):
    """Torch counts matrix products; the first layer needs no gradient of its input, which the formula passes over."""
    llm = add_adapter(random_llm(shape, REHEARSAL), TuneConfig(lora_rank=8, lora_alpha=16, lora_dropout=0.0)).cpu()
    # the counter sees the products of attention where they are written out
    decoder_of(llm).set_attn_implementation("eager")
    rows, length = 2, 96
    embeddings = torch.randn(rows, length, llm.config.hidden_size, requires_grad=True)
    mask = torch.zeros(rows, 1, length, length)
    with FlopCounterMode(display=False) as counter:
        decoder_of(llm)(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state.sum().backward()
    counted = counter.get_total_flops() / (rows * length)
    assert operations_a_token(llm, length) == pytest.approx(counted, rel=0.02)


def test_a_part_that_is_stopped_keeps_its_figures_and_is_begun_again(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "run_part", stopped)
    with pytest.raises(KeyboardInterrupt):
        gpu.measure("tune", tmp_path, rehearse=True)
    said = gpu.read(tmp_path, "tune")
    assert said["state"] == "unfinished"
    assert said["rows"] == [["plain", {"labels/s": 12.5}], ["compiled", {"labels/s": 20.0}]]
    text = gpu.table(tmp_path)
    assert "| tune | plain | labels/s 12.5 |\n| tune | compiled | labels/s 20 |\n| tune | *not finished* |" in text
    assert "REHEARSAL" in text

    # the second try is measured again where it comes to, and loses nothing
    monkeypatch.setattr(gpu, "run_part", lambda part, rehearse: iter([("plain", {"labels/s": 13.0})]))
    gpu.measure("tune", tmp_path, rehearse=True)
    said = json.loads((tmp_path / "tune.json").read_text())
    assert said["state"] == "done"
    assert said["rows"] == [["plain", {"labels/s": 13.0}], ["compiled", {"labels/s": 20.0}]]


def test_a_rehearsal_never_counts_as_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "in_its_own_process", lambda part, out, limit, rehearse: gpu.keep(out, part, state="done"))
    gpu.main(["--rehearse", "--out", str(tmp_path / "gpu")])
    assert {path.name for path in tmp_path.iterdir()} == {"gpu-rehearsal"}
    assert gpu.read(tmp_path / "gpu", "tune")["state"] == "unfinished"
    with pytest.raises(SystemExit):
        gpu.main(["--rehearse", "--write"])


def stopped(part, rehearse):
    yield "plain", {"labels/s": 12.5}
    yield "compiled", {"labels/s": 20.0}
    raise KeyboardInterrupt


def test_a_part_is_killed_at_its_limit_and_its_error_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "REPOSITORY", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").touch()
    (tmp_path / "benchmarks" / "gpu.py").write_text("import time; time.sleep(60)")
    gpu.in_its_own_process("fuse", tmp_path, 1, rehearse=True)
    assert gpu.read(tmp_path, "fuse")["error"] == "stopped after 1 s"
    (tmp_path / "benchmarks" / "gpu.py").write_text("raise SystemExit('no memory')")
    gpu.in_its_own_process("fuse", tmp_path, 30, rehearse=True)
    assert gpu.read(tmp_path, "fuse")["error"] == "no memory (see fuse.log)"
