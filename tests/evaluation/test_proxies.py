"""Signals before any training, against their formulas worked out by other means."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from llmatic_hpc.config import ContainmentSettings
from llmatic_hpc.evaluation import build, proxies
from llmatic_hpc.evaluation.screen import Screener

SHAPE = (1, 4, 4)
NET = """
import torch.nn as nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(16, 12, bias=False)
        self.norm = nn.BatchNorm1d(12, affine=False)
        self.second = nn.Linear(12, 9, bias=False)
        self.last = nn.Linear(9, 5, bias=False)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x.flatten(1))))
        return self.last(self.second(x).relu())
"""


def test_naswot_is_the_kernel_of_hamming_distances() -> None:
    """Element (i, j): the number of rectifiers less those that differ, pair by pair."""
    torch.manual_seed(3)
    model = build.build(NET)
    torch.manual_seed(4)
    found = proxies.naswot(model, SHAPE)
    torch.manual_seed(4)
    x = torch.randn((proxies.BATCH, *SHAPE)).flatten(1)
    with torch.no_grad():
        one = model.norm(model.first(x))
        other = model.second(one.clamp(min=0))
    codes = torch.cat([one > 0, other > 0], dim=1).numpy()
    kernel = np.zeros((proxies.BATCH, proxies.BATCH))
    for i, j in itertools.product(range(proxies.BATCH), repeat=2):
        kernel[i, j] = codes.shape[1] - np.count_nonzero(codes[i] != codes[j])
    assert found == pytest.approx(math.log(np.linalg.det(kernel)), rel=1e-9)


def test_synflow_is_conserved_from_layer_to_layer() -> None:
    """Without biases each layer holds all of the flow (Tanaka et al., theorem 2): the product of
    the absolute matrices between ones, once for each layer."""
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(3)
        first, second, last = (p.detach().abs() for p in build.build(NET).parameters())
    finally:
        torch.set_default_dtype(torch.float32)
    flow = float((last @ second @ first).sum())
    found = proxies.synflow(NET, SHAPE, seed=3)
    assert found == pytest.approx(math.log10(3 * flow), rel=1e-12)
    assert torch.get_default_dtype() == torch.float32


def test_what_has_no_signal_has_none() -> None:
    """No activation, or no network that runs: None, and nothing is raised."""
    linear = NET.replace("F.relu", "").replace(".relu()", "")
    assert proxies.measure(linear, input_shape=SHAPE, seed=0)["naswot"] is None
    broken = NET.replace("12, 9", "11, 9")
    assert proxies.measure(broken, input_shape=SHAPE, seed=0) == {"naswot": None, "synflow": None}


def test_the_screen_has_them_of_what_fits() -> None:
    """The same numbers from the contained child, of whatever fits."""
    sources = [NET, NET.replace("12", "13"), NET.replace("12, 9", "11, 9")]
    problem = {"input_shape": SHAPE, "classes": 5, "containment": ContainmentSettings()}
    with Screener(**problem, proxies=True) as screener:
        *fit, misfit = screener.screen(sources)
    for source, seen in zip(sources, fit, strict=False):
        assert seen.measured == proxies.measure(source, input_shape=SHAPE, seed=0)
    assert misfit.measured == {}
