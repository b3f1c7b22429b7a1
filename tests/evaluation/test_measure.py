"""Measures equal their definitions: against hand formulas, fvcore and torchvision."""

from __future__ import annotations

import contextlib
import json
import re
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import activation

from llmatic_hpc.evaluation import build, faults, measure
from llmatic_hpc.evaluation.audit import count_with_fvcore
from llmatic_hpc.evaluation.build import CandidateError
from llmatic_hpc.evaluation.building import Building
from llmatic_hpc.evaluation.layers import Counting
from llmatic_hpc.problems.images.kind import image_classification
from llmatic_hpc.source import gate
from llmatic_hpc.types import Descriptors, Screened

from ..source.networks import HEADER, NETWORKS


def screened(source: str, **changes: Any) -> Screened:
    settings: dict[str, Any] = {
        "input_shape": (3, 32, 32), "classes": 10,
        "max_params": 200_000_000, "max_flops": 2e10, "max_layers": 2_000,
    }  # fmt: skip
    return measure.measure(source, **{**settings, **changes})


def described(source: str, **changes: Any) -> Descriptors:
    found = screened(source, **changes)
    assert found.status == "pending", found
    assert found.descriptors is not None
    return found.descriptors


def net(forward: str, *, init: str = "", top: str = "") -> str:
    """A network whose methods have these bodies, lines separated by newlines."""
    init_lines = "".join(f"        {line}\n" for line in init.splitlines())
    lines = "".join(f"        {line}\n" for line in forward.splitlines())
    return (
        f"{HEADER}{top}\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        f"        super().__init__()\n{init_lines}\n    def forward(self, x):\n{lines}"
    )


def fvcore(model: nn.Module, shape: tuple[int, ...]) -> float:
    """Count the multiply-adds for one image with the oracle, as ``llmatic screen --audit`` does."""
    counts, _ = count_with_fvcore(model, torch.zeros(1, *shape))
    return sum(counts.values())


def counted(model: nn.Module, shape: tuple[int, ...]) -> Counting:
    counting = Counting()
    with counting, torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    return counting


# --- against hand formulas ----------------------------------------------------------------------


def test_the_initial_network() -> None:
    """Section 4 of the paper: convolution, ReLU, flatten, linear; 13,312 multiply-adds."""
    source = image_classification(input_shape=(3, 32, 32), classes=10).initial_source
    found = described(source)
    assert found.flops == 3 * 1024 + 1024 * 10 == 13_312
    assert found.params == (3 + 1) + (1024 * 10 + 10)
    assert (found.width, found.depth, found.ratio) == (10, 4, 2.5)


def test_lstm_by_hand() -> None:
    """Four gates; a step costs the input and the recurrent matrices, a direction twice that."""
    hidden, steps, features = 20, 32, 96
    first = steps * 4 * hidden * (features + hidden) * 2
    second = steps * 4 * hidden * (2 * hidden + hidden) * 2
    gru = steps * 3 * 12 * (2 * hidden + 12)
    assert described(NETWORKS["recurrent"]).flops == first + second + gru + 12 * 10


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_packed_sequences_cost_their_steps(kind: str, device: str) -> None:
    """Three sequences of 5, 3 and 2 steps: ten times the weight matrices, as step by step."""
    layer = getattr(nn, kind)(4, 6, bidirectional=True).to(device)
    sequences = torch.zeros(5, 3, 4, device=device)
    packed = nn.utils.rnn.pack_padded_sequence(sequences, [5, 3, 2])
    with Counting() as counting, torch.no_grad():
        layer(packed)
    matrices = sum(w.numel() for w in layer.parameters() if w.dim() == 2)
    assert (counting.flops, counting.depth, counting.width) == (10 * matrices, 1, 12)
    with Counting() as counting, torch.no_grad():
        for length in (5, 3, 2):
            layer(sequences[:length, :1])
    assert counting.flops == 10 * matrices


def test_a_long_recurrence_is_measured_in_no_time() -> None:
    """The meta device would take seconds for it; the count is exact all the same."""
    source = net(
        "out, _ = self.lstm(x.flatten(1).unsqueeze(-1))\nreturn self.fc(out.mean(1))",
        init="self.lstm = nn.LSTM(1, 600, batch_first=True)\nself.fc = nn.Linear(600, 10)",
    )
    started = time.process_time()
    found = described(source)
    assert time.process_time() - started < 5
    assert found.flops == 3072 * 4 * 600 * 601 + 6000
    assert (found.width, found.depth) == (600, 3)


def test_attention_by_hand() -> None:
    """MultiheadAttention, fused and spelled out attention of one size cost the same."""
    length, width = 32, 24
    x = "x = x.permute(0, 2, 1, 3).flatten(2)[:, :, :24]\n"
    module = net(
        x + "x, _ = self.a(x, x, x)\nreturn self.fc(x.mean(1))",
        init="self.a = nn.MultiheadAttention(24, 4, batch_first=True)\nself.fc = nn.Linear(24, 10)",
    )
    layers = "self.qkv = nn.Linear(24, 72)\nself.o = nn.Linear(24, 24)\nself.fc = nn.Linear(24, 10)"
    split = (
        "q, k, v = [t.unflatten(-1, (4, 6)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1)]\n"
    )
    join = "return self.fc(self.o(x.transpose(1, 2).flatten(2)).mean(1))"
    fused = net(x + split + "x = F.scaled_dot_product_attention(q, k, v)\n" + join, init=layers)
    spelled = net(
        x + split + "x = torch.softmax(q @ k.transpose(-1, -2) / 3, -1) @ v\n" + join, init=layers
    )
    expected = 4 * length * width**2 + 2 * length**2 * width + width * 10
    for source in (module, fused, spelled):
        found = described(source)
        assert found.flops == expected
        assert found.params == 3 * 24 * 24 + 72 + 24 * 24 + 24 + 250


@pytest.mark.parametrize(
    ("forward", "init", "flops"),
    [
        ("return x.flatten(1) @ self.w", "self.w = nn.Parameter(torch.ones(3072, 10))", 30720),
        (
            "return torch.mm(x.flatten(1), self.w)",
            "self.w = nn.Parameter(torch.ones(3072, 10))",
            30720,
        ),
        (
            "return torch.addmm(torch.zeros(10), x.flatten(1), self.w)",
            "self.w = nn.Parameter(torch.ones(3072, 10))",
            30720,
        ),
        (
            "return torch.einsum('nchw,chwk->nk', x, self.w)",
            "self.w = nn.Parameter(torch.ones(3, 32, 32, 10))",
            30720,
        ),
        (
            "return torch.einsum('n...,...k->nk', x, self.w)",
            "self.w = nn.Parameter(torch.ones(3, 32, 32, 10))",
            30720,
        ),
        (
            "return torch.tensordot(x.flatten(1), self.w, 1)",
            "self.w = nn.Parameter(torch.ones(3072, 10))",
            30720,
        ),
        (
            "return torch.einsum('ni,ij,jk->nk', x.flatten(1), self.w, self.v)",
            "self.w = nn.Parameter(torch.ones(3072, 4))\nself.v = nn.Parameter(torch.ones(4, 10))",
            3072 * 4 + 40,
        ),
        # fvcore takes the sizes of the left factor alone
        (
            "return (self.w @ x.flatten(2).mT).flatten(1)[:, :10]",
            "self.w = nn.Parameter(torch.ones(5, 1024))",
            0,
        ),
        ("return self.b(x[:, 0, 0], x[:, 1, 1])", "self.b = nn.Bilinear(32, 32, 10)", 10240),
        (
            "return self.e(x[:, 0, 0, :4].long().clamp(0, 4)).flatten(1)[:, :10]",
            "self.e = nn.Embedding(5, 3)",
            0,
        ),
    ],
)
def test_products_by_hand(forward: str, init: str, flops: int) -> None:
    """However a product of matrices is spelled, it costs the product of its sizes."""
    if "self.w @" in forward:
        forward, flops = "return (self.w @ x.flatten(2).mT).flatten(1)[:, :10]", 5 * 1024 * 3
    assert described(net(forward, init=init)).flops == flops


# --- against fvcore -----------------------------------------------------------------------------

UNCOUNTED = {"recurrent", "encoder", "cells", "weight_norm", "einsum"}
"""Networks with operations that fvcore counts as nothing, or (einsum) rounded."""


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - UNCOUNTED))
def test_flops_are_those_of_fvcore(name: str) -> None:
    """A network of which fvcore knows every operation has its total, to the unit."""
    assert described(NETWORKS[name]).flops == fvcore(build.build(NETWORKS[name]), (3, 32, 32))


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("encoder", 2 * 2 * 32 * 32 * 24),
        ("cells", 32 * 2 * 8 * 8),
        ("weight_norm", 10 * 4 * 4),
        ("einsum", 32 * 32 * (32 + 32) + 4),
    ],
)
def test_flops_that_fvcore_misses(name: str, missing: int) -> None:
    """Fused attention, recurrent and bilinear layers come on top, by hand; einsum is rounded."""
    total = fvcore(build.build(NETWORKS[name]), (3, 32, 32))
    assert described(NETWORKS[name]).flops == total + missing


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 32),
        ("resnet50", 64),
        ("resnext50_32x4d", 32),
        ("wide_resnet50_2", 32),
        ("squeezenet1_0", 64),
        ("squeezenet1_1", 64),
        ("mobilenet_v2", 32),
        ("mobilenet_v3_small", 64),
        ("shufflenet_v2_x0_5", 32),
        ("mnasnet0_5", 32),
        ("efficientnet_b0", 32),
        ("densenet121", 32),
        ("regnet_y_400mf", 32),
        ("alexnet", 64),
        ("convnext_tiny", 32),
    ],
)
def test_torchvision(name: str, size: int) -> None:
    """Real architectures: fvcore's total, and a ReLU for every ReLU."""
    with Building(float("inf")):
        model = getattr(torchvision.models, name)(num_classes=10)
    counting = counted(model, (3, size, size))
    assert counting.flops == fvcore(model, (3, size, size))
    assert counting.depth > 15


def test_resnet18_on_small_images() -> None:
    """About 37 million multiply-adds, 11.2 million parameters, 512 channels."""
    with Building(float("inf")):
        model = torchvision.models.resnet18(num_classes=10)
    counting = counted(model, (3, 32, 32))
    assert 36e6 < counting.flops < 38e6
    assert counting.width == 512
    # 20 convolutions and batch norms, 17 ReLUs, two poolings, flatten, linear
    assert counting.depth == 20 + 20 + 17 + 2 + 1 + 1


# --- definitions --------------------------------------------------------------------------------


def test_spelling_does_not_change_the_depth() -> None:
    """Modules, functions, tensor methods and bare parameters of one network measure the same."""
    found = {described(NETWORKS[name]) for name in ("sequential", "functional")}
    assert len(found) == 1
    weights = described(NETWORKS["weights"])
    (one,) = found
    assert (weights.width, weights.depth, weights.flops) == (one.width, one.depth, one.flops)


@pytest.mark.parametrize(
    "relu",
    ["F.relu(x)", "torch.relu(x)", "x.relu()", "x.relu_()", "self.relu(x)", "nn.ReLU()(x)",
     "F.relu(x, inplace=True)", "self.own(x)", "nn.Sequential(nn.ReLU())(x)",
     "nn.Identity()(F.relu(x))", "torch.nn.functional.relu_(x)"],
)  # fmt: skip
def test_an_activation_is_one_layer(relu: str) -> None:
    """However it is spelled."""
    own = "class Own(nn.Module):\n    def forward(self, x):\n        return torch.relu(x)"
    init = "self.relu = nn.ReLU()\nself.own = Own()\nself.fc = nn.Linear(3072, 10)"
    source = net(f"x = self.fc(x.view(x.size(0), -1))\nreturn {relu}", init=init, top=own)
    assert described(source).depth == 2


def test_a_function_is_the_layer_that_its_module_is() -> None:
    """Activations that torch has as both, by the names that it gives its functions itself."""
    names = {"LeakyReLU": "leaky_relu", "LogSoftmax": "log_softmax"}
    depths = {}
    for name in activation.__all__:
        function = getattr(F, names.get(name, name.lower()), None)
        with (
            Counting() as counting, warnings.catch_warnings(action="ignore"),
            contextlib.suppress(TypeError),  # it wants more than a tensor
        ):  # fmt: skip
            function(torch.zeros(2, 4))
            depths[name] = counting.depth
    assert set(depths.values()) == {1}, depths
    assert {"LogSigmoid", "Softplus", "GELU"} <= depths.keys()


def test_what_is_executed_counts_as_often() -> None:
    """A shared layer counts each time, an unused one never."""
    init = (
        "self.a = nn.Linear(3072, 3072)\n"
        "self.unused = nn.Linear(9, 5000)\n"
        "self.fc = nn.Linear(3072, 10)"
    )
    shared = "x = x.view(x.size(0), -1)\nfor _ in range(5):\n    x = self.a(x)\nreturn self.fc(x)"
    found = described(net(shared, init=init))
    assert (found.depth, found.width) == (6, 3072)
    assert found.params == 3072 * 3072 + 3072 + 9 * 5000 + 5000 + 30730


def test_own_modules_without_children() -> None:
    """One layer if nothing in them is one; else the layers in them."""
    top = (
        "class Scale(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.s = nn.Parameter(torch.ones(1, 40, 1, 1))\n"
        "    def forward(self, x):\n        return x * self.s\n\n\n"
        "class Two(nn.Module):\n    def forward(self, x):\n"
        "        return torch.sigmoid(x) * torch.tanh(x)\n"
    )
    init = (
        "self.c = nn.Conv2d(3, 40, 1)\n"
        "self.s = Scale()\n"
        "self.t = Two()\n"
        "self.fc = nn.Linear(40, 10)"
    )
    found = described(
        net("return self.fc(self.t(self.s(self.c(x))).mean((2, 3)))", init=init, top=top)
    )
    assert (found.depth, found.width) == (5, 40)


def test_width_without_weights() -> None:
    """Every layer counts if none has weights."""
    source = net(
        "x = F.adaptive_avg_pool2d(x, (4, 1)).flatten(1)\nreturn x[:, :10] * self.a",
        init="self.a = nn.Parameter(torch.ones(10))",
    )
    assert described(source).width == 12


def test_widths_of_sequences() -> None:
    """Last dimension behind recurrent, attention and linear layers; channels of Conv1d."""
    init = (
        "self.c = nn.Conv1d(96, 50, 3)\n"
        "self.r = nn.GRU(50, 30, bidirectional=True)\n"
        "self.f = nn.Linear(60, 10)"
    )
    forward = "x = self.c(x.flatten(1, 2))\nx, _ = self.r(x.permute(2, 0, 1))\nreturn self.f(x[-1])"
    assert described(net(forward, init=init)).width == 60


@pytest.mark.parametrize(
    ("forward", "planes"),
    [
        ("return self.fc(torch.flatten(self.b(self.a(x)), 1))", 3 + 8 + 4),
        ("return self.fc(torch.flatten(self.b(F.relu(self.a(x))), 1))", 3 + 8 + 8),
        ("return self.fc(torch.flatten(self.b(F.relu_(self.a(x))), 1))", 3 + 8 + 4),
        # A view keeps what it views; a second branch keeps the first.
        ("y = self.a(x)[:, :4]; return self.fc(torch.flatten(y, 1))", 3 + 8 + 10 / 64),
        ("y = self.a(x); z = self.b(y); return self.fc((self.b(y) + z).flatten(1))", 3 + 8 + 12),
        ("y = self.a(x); del y; return self.fc(self.b(self.a(x)).flatten(1))", 3 + 8 + 4),
    ],
)
def test_memory_by_hand(forward: str, planes: float) -> None:
    """Peak memory is that of the tensors alive at once: planes of 8 x 8 numbers of 4 bytes."""
    init = "self.a = nn.Conv2d(3, 8, 1); self.b = nn.Conv2d(8, 4, 1); self.fc = nn.Linear(256, 10)"
    source = net(forward, init=init)
    for device in ("cpu", "meta"):
        attempt = measure._Attempt((3, 8, 8), 10, 10**6, 1e9, 100, device)
        assert attempt.measure(source).activation_bytes == planes * 64 * 4, device


def test_memory_does_not_hold_the_weights_of_lazy_layers() -> None:
    """They are made in a pass that is not counted."""
    init = "self.a = nn.{}256); self.b = nn.{}10)"
    forward = "return self.b(F.relu(self.a(torch.flatten(x, 1))))"
    lazy = described(net(forward, init=init.format("LazyLinear(", "LazyLinear(")))
    plain = described(net(forward, init=init.format("Linear(3072, ", "Linear(256, ")))
    assert lazy == plain


def measured_on(device: str, source: str) -> Descriptors:
    """The measures that one device gives, without bounds."""
    return measure._Attempt((3, 32, 32), 10, 10**9, 1e30, 10**6, device).measure(source)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"convnext"}))
def test_both_devices_agree(name: str) -> None:
    """Small networks are run, large ones derived on the meta device; the numbers are the same."""
    found = [measured_on(device, NETWORKS[name]) for device in ("cpu", "meta")]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "forward",
    [
        "x = F.dropout(x, 1.5)",
        "x = F.layer_norm(x, (5,))",
        "x = F.group_norm(x, 2)",  # of three channels
        "x = F.batch_norm(x, torch.zeros(4), torch.ones(4), training=self.training)",
        "x = F.batch_norm(x, None, None)",
        "x = F.batch_norm(x, torch.zeros(3), None)",
        "x = F.relu(x) + x[:, :, 1:]",
        "y = torch.sigmoid(self.c(x))\nx = x * y\ny += 1",
        "x = F.relu(self.c(x))\nx += 1\nx = x * 2",
        "x = F.silu(self.c(x), inplace=True) if self.training else x[:0]",
        "y = self.c(x)\nz = F.gelu(y)\ny.mul_(2)\nx = z",
    ],
)
def test_both_devices_see_a_mistake(forward: str) -> None:
    """Layers that torch refuses it refuses where shapes are only derived, too."""
    source = net(
        f"{forward}\nreturn self.fc(x.flatten(1))",
        init="self.c = nn.Conv2d(3, 3, 1)\nself.fc = nn.Linear(3072, 10)",
    )
    for device in ("cpu", "meta"):
        with pytest.raises(measure.CandidateError) as raised:
            measured_on(device, source)
        assert raised.value.status == "invalid"


def test_the_random_state_is_left_alone() -> None:
    """Measuring draws from a state of its own, and is repeatable."""
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = screened(NETWORKS["functional"])
    assert torch.equal(torch.rand(2), expected)
    assert first == screened(NETWORKS["functional"])


# --- verdicts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forward", "init", "said"),
    [
        ("return self.fc(x)", "self.fc = nn.Linear(3072, 10)", "line 14: RuntimeError: mat1"),
        ("return x.flatten(1)[:, :10]", "", "no parameters"),
        ("return x.flatten(1)[:, :10]", "self.fc = nn.Linear(2, 2)", "no parameter takes part"),
        ("return self.fc(x.flatten(1)).detach()", "self.fc = nn.Linear(3072, 10)", "no parameter"),
        (
            "return self.fc(x.flatten(1))",
            "self.fc = nn.Linear(3072, 11)",
            r"shape \(2, 11\).*\(2, 10\)",
        ),
        ("return self.fc(x.flatten(1)), x", "self.fc = nn.Linear(3072, 10)", "tuple.*not a tensor"),
        ("self.fc(x.flatten(1))", "self.fc = nn.Linear(3072, 10)", "NoneType"),
        (
            "return self.fc(x.flatten(1)).argmax(1, keepdim=True).expand(-1, 10)",
            "self.fc = nn.Linear(3072, 10)",
            "int64, not floating",
        ),
        ("return self.fc(x.flatten(1))", "self.fc = nn.Linear(3072, 10, 3, 4, 5, 6)", "TypeError"),
        ("return self.fc(x.reshape(2, -1))", "self.fc = nn.Linear(3072, 10)", "batch of 3"),
        ("raise ValueError('a\\nb' * 999)", "self.fc = nn.Linear(3072, 10)", "ValueError: a b"),
        ("return self.forward(x)", "self.fc = nn.Linear(3072, 10)", "RecursionError"),
        ("raise SystemExit(3)", "self.fc = nn.Linear(3072, 10)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "self.fc = nn.Linear(3072, 10)", "KeyboardInterrupt"),
        ("return x.nope", "self.fc = nn.Linear(3072, 10)", "nope"),
        ("return 1 // 0", "self.fc = nn.Linear(3072, 10)", "line 14: ZeroDivisionError"),
        (
            "if self.training: return x\nreturn self.fc(x.flatten(1))",
            "self.fc = nn.Linear(3072, 10)",
            "in training",
        ),
        (
            "if self.training: return self.fc(x.flatten(1))\nreturn x",
            "self.fc = nn.Linear(3072, 10)",
            "in evaluation",
        ),
        (
            "x = self.fc(x.flatten(1))\ny = x.exp()\nx = y * 2\ny.add_(1)\nreturn x * y",
            "self.fc = nn.Linear(3072, 10)",
            "backward|in-?place",
        ),
    ],
)
def test_unfit_networks_are_invalid(forward: str, init: str, said: str) -> None:
    """The failure is one line that says where and why, whatever was raised."""
    source = net(forward, init=init)
    if "raise Sys" in forward or "raise Key" in forward:
        exception = "SystemExit" if "Sys" in forward else "KeyboardInterrupt"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(build.allowlist, "BUILTINS", build.allowlist.BUILTINS | {exception})
            found = screened(source)
    else:
        found = screened(source)
    assert found.status == "invalid", found
    assert re.search(said, found.failure), found
    assert "\n" not in found.failure
    assert len(found.failure) <= 300


def test_sources_without_a_network() -> None:
    """Nothing to build, or nothing that can be built."""
    for source, said in [
        ("x = (", "SyntaxError"),
        ("x = 1", "no class"),
        (HEADER + "class N(nn.Module):\n    def forward(self, x): return x\nN = 3", "no class"),
        (
            HEADER + "class N(nn.Module):\n  def __init__(self): pass\n  def forward(self, x): 1",
            "does not call super",
        ),
        (
            HEADER + "import os\nclass N(nn.Module):\n    def forward(self, x): return os",
            "os is not available",
        ),
        (
            HEADER + "y = open('x')\nclass N(nn.Module):\n    def forward(self, x): return y",
            "'open' is not",
        ),
    ]:
        found = screened(source)
        assert found.status == "invalid"
        assert said in found.failure, found


def test_needs_a_batch() -> None:
    """BatchNorm on 1 x 1 images refuses a single image in training, and is fine."""
    init = "self.f = nn.Linear(3072, 20)\nself.b = nn.BatchNorm1d(20)\nself.g = nn.Linear(20, 10)"
    source = net("return self.g(self.b(self.f(x.flatten(1))))", init=init)
    assert described(source).depth == 4
    frozen = source.replace("BatchNorm1d(20)", "BatchNorm1d(20, track_running_stats=False)")
    assert described(frozen).depth == 4
    assert described(
        net("return self.g(x.mean((2, 3)).squeeze())", init="self.g = nn.Linear(3, 10)")
    )


def test_too_many_parameters() -> None:
    """Ten to the ten parameters are counted, not allocated."""
    source = net(
        "return self.f(x.flatten(1))",
        init="self.f = nn.Linear(3072, 10)\nself.g = nn.Linear(100000, 100000)",
    )
    started = time.process_time()
    found = screened(source)
    assert time.process_time() - started < 5
    assert found.status == "too_large"
    assert "10000130730 parameters, more than containment.max_params = 200000000" in found.failure
    assert screened(NETWORKS["vgg"], max_params=1000).failure.startswith("193354 parameters")


def test_too_many_flops() -> None:
    """The number and the bound are named, and a large network is not run for it."""
    init = (
        "self.c = nn.Conv2d(3, 900, 3, padding=1)\n"
        "self.d = nn.Conv2d(900, 900, 3, padding=1)\n"
        "self.f = nn.Linear(900, 10)"
    )
    source = net("x = self.d(self.d(self.d(self.c(x))))\nreturn self.f(x.mean((2, 3)))", init=init)
    started = time.process_time()
    found = screened(source)
    assert time.process_time() - started < 5
    assert found.status == "too_large"
    flops = 1024 * 9 * (3 * 900 + 3 * 900 * 900) + 9000
    assert f"{flops:.3e} multiply-adds" in found.failure
    assert "containment.max_flops = 2e+10" in found.failure
    small = screened(NETWORKS["functional"], max_flops=1e5)
    assert (small.status, "2.580e+05" in small.failure) == ("too_large", True)


def test_too_many_layers() -> None:
    """A loop over layers ends at the bound."""
    source = net(
        "x = self.f(x.flatten(1))\nfor _ in range(1000000):\n    x = F.relu(x)\nreturn x",
        init="self.f = nn.Linear(3072, 10)",
    )
    found = screened(source)
    assert found.status == "too_large"
    assert "containment.max_layers = 2000" in found.failure


def test_values_at_run_time() -> None:
    """A large network that looks at its values cannot be derived, and is run instead."""
    init = "self.a = nn.Linear(3072, 1000)\nself.b = nn.Linear(1000, 10)"
    forward = (
        "x = self.a(x.flatten(1))\n"
        "if x.abs().sum().item() < 0:\n"
        "    x = -x\n"
        "return self.b(F.relu(x))"
    )
    found = described(net(forward, init=init))
    assert found.flops == 3072 * 1000 + 10_000
    assert (found.width, found.depth) == (1000, 4)


def test_memory_is_not_allocated_while_building() -> None:
    """A buffer of 40 GB is refused before it is made."""
    for expression in ("torch.zeros(100000, 100000)", "torch.arange(10 ** 9).float()"):
        source = net(
            "return self.f(x.flatten(1))",
            init=f"self.f = nn.Linear(3072, 10)\ny = {expression}[0].item()",
        )
        found = screened(source)
        assert found.status == "too_large", found


def test_candidate_errors_are_bounded() -> None:
    """Also for an exception that cannot say what it is."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    error = build.candidate_error(MuteError())
    assert (error.status, error.message) == ("invalid", "MuteError: its message cannot be read")
    assert build.candidate_error(MemoryError()).status == "too_large"
    exhausted = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
    assert build.candidate_error(exhausted).status == "too_large"
    assert len(build.candidate_error(ValueError("x" * 10**6)).message) == faults.MESSAGE_LIMIT
    assert build.candidate_error(error) is error
    assert isinstance(error, CandidateError)


def test_building_draws_as_any_program_does() -> None:
    """The builder itself leaves the initialisation to torch and the global random state."""
    torch.manual_seed(1)
    built = build.build(NETWORKS["functional"])
    torch.manual_seed(1)
    expected = nn.Conv2d(3, 8, 3, padding=1)
    assert torch.equal(next(built.parameters()), expected.weight)


def test_only_the_network_is_run() -> None:
    """Code below it is not executed, helpers above it are, and print says nothing."""
    source = NETWORKS["functional"] + "\nprint(Net())\nraise ValueError\nx = 1 // 0\n"
    assert described(source)
    assert screened("1 // 0\n" + NETWORKS["vgg"]).status == "pending"


def test_real_completions(test_data: Path) -> None:
    """Texts of language models get a verdict, in milliseconds, or descriptors that fit."""
    measure.warm_up()
    statuses = []
    started = time.process_time()
    for path in sorted((test_data / "completions").glob("qwen*.jsonl")):
        for line in path.read_text().splitlines():
            text = json.loads(line)
            fence = re.search(r"```(?:python)?\n(.*?)```", text["completion"], re.S)
            source = HEADER + (
                fence.group(1) if fence else text["prompt_tail"] + text["completion"]
            )
            if gate.check(source, max_bytes=100_000).status != "pending":
                continue
            found = screened(source)
            statuses.append(found.status)
            if found.descriptors is not None:
                assert found.descriptors.ratio == found.descriptors.width / found.descriptors.depth
                assert found.descriptors.params > 0
    assert statuses.count("pending") > 3
    assert (time.process_time() - started) / len(statuses) < 0.1


def test_small_networks_are_measured_in_milliseconds() -> None:
    """A warm process screens a generation of a hundred in about a second."""
    source = image_classification(input_shape=(3, 32, 32), classes=10).initial_source
    times = []
    for _ in range(10):
        started = time.process_time()
        screened(source)
        times.append(time.process_time() - started)
    assert min(times) < 0.02


STRANGE = """
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 60, 3, padding=1)
        self.table = nn.Embedding(4, 10)
        self.fc = nn.Linear(60, 10)

    def forward(self, x):
        x = torch.relu(self.conv(torch.relu(self.conv(x)[:, :3])))
        return self.fc(x.mean((2, 3))) + self.table(torch.full((x.shape[0],), 7).long())
"""


def test_what_shapes_do_not_tell_is_run_on_the_cpu() -> None:
    """An index out of range, which the meta device does not see, in a network that is measured
    there for its size; one within the range fits."""
    problem = {
        "input_shape": (3, 32, 32), "classes": 10,
        "max_params": 10**8, "max_flops": 1e11, "max_layers": 100,
    }  # fmt: skip
    found = measure.measure(STRANGE, **problem)
    assert found.status == "invalid"
    assert "index out of range" in found.failure
    found = measure.measure(STRANGE.replace("7", "3"), **problem)
    assert found.status == "pending"
    assert found.descriptors is not None
    assert measure.QUICK_FLOPS < found.descriptors.flops < measure.SMALL_FLOPS
