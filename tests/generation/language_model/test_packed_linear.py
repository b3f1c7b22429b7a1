"""Packed linear layers: the same function."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from llmatic_hpc.generation.language_model import packed_linear
from llmatic_hpc.generation.language_model.packed_linear import PackedLinear


def test_the_same_function() -> None:
    """Packed layers equal plain ones with and without bias, for any rank and number of rows."""
    model = nn.Sequential(nn.Linear(48, 96), nn.ReLU(), nn.Linear(96, 7, bias=False))
    inputs = [torch.randn(shape) for shape in ((1, 48), (100, 48), (2, 5, 48), (3, 1, 48))]
    inputs.append(torch.randn(4, 9, 48)[:, -1:])
    with torch.inference_mode():
        before = [model(x) for x in inputs]
        packed_linear.pack(model)
        assert [type(m) for m in model] == [PackedLinear, nn.ReLU, PackedLinear]
        for x, y in zip(inputs, before, strict=True):
            torch.testing.assert_close(model(x), y)


def test_the_file_of_weights_is_left_alone(tmp_path: Path) -> None:
    """Weights that are not packed are copied, so that the file is no longer mapped into memory."""
    file = tmp_path / "model.safetensors"
    model = nn.Sequential(nn.Embedding(1000, 64), nn.Linear(64, 64))
    save_file(model.state_dict(), file)
    model.load_state_dict(load_file(file), assign=True)
    maps = Path("/proc/self/maps")
    assert str(file) in maps.read_text()
    with torch.no_grad():
        before = model(torch.arange(9))
        packed_linear.pack(model)
        assert str(file) not in maps.read_text()
        torch.testing.assert_close(model(torch.arange(9)), before)


def test_other_layers_stay() -> None:
    """Half precision, and kinds of layers that only derive from the linear one."""

    class Special(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(8, 8, dtype=torch.bfloat16), Special(8, 8))
    packed_linear.pack(model)
    assert [type(m) for m in model] == [nn.Linear, Special]


def test_without_the_operator_all_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers stay as they are where PyTorch no longer has its private operator."""

    def gone(self: PackedLinear, linear: nn.Linear) -> None:
        raise AttributeError("no such operator")

    monkeypatch.setattr(PackedLinear, "__init__", gone)
    model = nn.Sequential(nn.Linear(8, 8))
    packed_linear.pack(model)
    assert type(model[0]) is nn.Linear
