"""Reading parents: exact for what the control wrote itself, sensible for what others wrote.

Run: pytest tests/generation/procedural/test_read.py
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from llmatic_hpc.generation.procedural.fit import MAX_LAYERS, fitted
from llmatic_hpc.generation.procedural.layers import (
    Act,
    AdaptivePool,
    Conv,
    Depthwise,
    Dropout,
    Flatten,
    Layer,
    Linear,
    Network,
    Norm,
    Pool,
    Recurrent,
    Residual,
    sites_of,
    size_of,
)
from llmatic_hpc.generation.procedural.random_network import fresh
from llmatic_hpc.generation.procedural.read import read
from llmatic_hpc.generation.procedural.write import written

from .test_control import CIFAR, ask, build, check

SHAPE, CLASSES = CIFAR.input_shape, CIFAR.classes
HONEST = sorted((Path(__file__).parents[2] / "honest" / "models").glob("*.py"))

widths = st.sampled_from([1, 3, 8, 10, 16, 64])
simple: st.SearchStrategy[Layer] = st.one_of(
    st.builds(
        Conv, widths, st.integers(1, 7), st.integers(1, 3), st.integers(0, 3), st.integers(1, 8)
    ),
    st.builds(Depthwise, st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(0, 2)),
    st.builds(Linear, widths),
    st.builds(
        Recurrent,
        st.sampled_from(["RNN", "GRU", "LSTM"]),
        widths,
        st.sampled_from(["pixels", "rows"]),
        st.sampled_from(["last", "mean", "map"]),
        st.integers(1, 2),
        st.booleans(),
    ),
    st.builds(Norm, st.sampled_from(["batch", "group", "layer"]), st.integers(1, 8)),
    st.builds(Act, st.sampled_from(["relu", "gelu", "leaky_relu", "tanh"])),
    st.builds(Pool, st.sampled_from(["max", "avg"]), st.integers(1, 4), st.integers(1, 3)),
    st.builds(AdaptivePool, st.sampled_from(["max", "avg"]), st.integers(1, 40)),
    st.builds(Dropout, st.floats(0, 1), st.booleans()),
    st.just(Flatten()),
)
layers = st.one_of(simple, st.builds(Residual, st.lists(simple, max_size=4).map(tuple)))


@given(st.lists(layers, max_size=14))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_list_of_layers_becomes_a_network(found: list[Layer]) -> None:
    """Fitted, it builds, fits and trains; it reads back as it was; fitting it again is idle."""
    network = fitted(found, SHAPE, CLASSES)
    source = written(network, SHAPE)
    assert fitted(read(source) or [], SHAPE, CLASSES) == network
    assert fitted(network, SHAPE, CLASSES) == network
    net = check(source, CIFAR)
    size = size_of(sites_of(network, SHAPE))
    assert size.parameters == sum(p.numel() for p in net.parameters())


def test_multiply_adds_agree_with_torch() -> None:
    """The arithmetic finds the multiply-adds that torch counts while it runs the network."""
    for seed in range(12):
        network = fitted(fresh(SHAPE, random.Random(seed)), SHAPE, CLASSES)
        if any(isinstance(layer, Recurrent) for layer in network):
            continue  # torch does not count these
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            build(written(network, SHAPE))(torch.zeros(1, *SHAPE))
        operations = 2 * size_of(sites_of(network, SHAPE)).macs
        assert operations == counter.get_total_flops()


def network_of(source: str) -> Network:
    found = read(source)
    assert found is not None
    return fitted(found, SHAPE, CLASSES)


def test_helper_classes_and_loops_are_followed() -> None:
    """A ResNet with a block class, a method that makes stages, and loops reads as it runs."""
    network = network_of(RESNET)
    block = (Conv(16), Norm("batch"), Act(), Conv(16), Norm("batch"))
    down = (Conv(32, stride=2), Norm("batch"), Act(), Conv(32), Norm("batch"))
    same = (Conv(32), Norm("batch"), Act(), Conv(32), Norm("batch"))
    assert network == (
        Conv(16),
        Norm("batch"),
        Act(),
        *(Residual(block), Act()) * 2,
        *(Residual(down), Act(), Residual(same), Act()),
        AdaptivePool(),
        Flatten(),
        Linear(10),
    )
    check(written(network, SHAPE), CIFAR)


RESNET = """\
import torch
from torch import nn
import torch.nn.functional as F

class Block(nn.Module):
    expansion = 1
    def __init__(self, inputs, outputs, stride=1):
        super(Block, self).__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=(3, 3), padding="same", bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)

class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.inputs = 16
        first = nn.Conv2d(3, 16, 3, 1, 1)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.stages = nn.ModuleList([self._stage(16 * 2 ** i, 2, i + 1) for i in range(2)])
        self.fc = nn.Linear(self.inputs, classes)

    def _stage(self, width, blocks, stride):
        made = []
        for s in [stride] + [1] * (blocks - 1):
            made.append(Block(self.inputs, width, s))
            self.inputs = width
        return nn.Sequential(*made)

    def forward(self, x):
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        x = x.mean(dim=[2, 3])
        return F.log_softmax(self.fc(x), dim=1)
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = self.c(x); x = x.view(x.size(0), -1); return self.f(x)", (Flatten(),)),
        ("x = self.c(x).reshape(-1, 32 * 32 * 8); return F.relu(self.f(x))", (Flatten(),)),
        ("return torch.softmax(self.f(self.c(x)), dim=1)", (Flatten(),)),
        ("x = self.c(x); return self.f(x.amax((2, 3)))", (AdaptivePool("max"), Flatten())),
        ("x, (h, c) = self.r(self.c(x).flatten(2).permute(0, 2, 1)); return self.f(h[-1])",
         (Pool("max"), Recurrent("LSTM", 7))),
    ],
)  # fmt: skip
def test_usual_ways_to_end(body: str, expected: Network) -> None:
    """Idioms for flattening, global pooling and recurrent states; no activation of logits."""
    source = (
        "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.c = nn.Conv2d(3, 8, 3, padding=1)\n        self.f = nn.Linear(1, 10)\n"
        "        self.r = nn.LSTM(8, 7, batch_first=True)\n"
        f"    def forward(self, x):\n        {body}\n"
    )
    assert network_of(source) == (Conv(8), *expected, Linear(10))


def test_an_unreadable_forward_pass_leaves_the_constructor() -> None:
    """Layers count in the order they were made, where the forward pass says nothing."""
    source = RESNET.replace("x = self.stem(x)", "return self.mystery()")
    network = network_of(source)
    assert sum(isinstance(layer, Residual) for layer in network) == 4


def module(forward: str, constructor: str = "pass") -> str:
    """A module of these one-line bodies, or of bodies whose further lines are indented by two."""
    return (
        f"class Net(nn.Module):\n def __init__(self):\n  {constructor}\n"
        f" def forward(self, x):\n  {forward}\n"
    )


LOOPS = "".join("  " + " " * i + f"for i{i} in range(10**9):\n" for i in range(8)).lstrip()
HOSTILE = {
    "empty": "",
    "prose": "Sure! Here is the network you asked for:",
    "no class": "x = 1",
    "null byte": "class Net:\0 pass",
    "surrogate": "# \ud800\nclass Net: pass",
    "unfinished": "class Net(nn.Module):\n    def __init__(self):\n        super().__init__(",
    "nested brackets": "(" * 5_000 + ")" * 5_000,
    "nested signs": module("return " + "-" * 5_000 + "1"),
    "long sum": module("return x" + " + x" * 20_000),
    "huge": "x = 1\n" * 100_000,
    "huge number": module("return 9" + "9" * 10_000),
    "recursion": module("return self.forward(x)"),
    "own base": "class Net(Net):\n def forward(self, x):\n  return super().forward(x)",
    "own constructor": module("return self.n(x)", "self.n = Net()"),
    "powers": module("a = 9**9**9**9; b = [0] * 10**12; c = 1 << 10**9; return x"),
    "loops": module(LOOPS + " " * 12 + "x = x + torch.relu(x)\n  return x"),
    "doubling": module("a = [x]\n  for i in range(99):\n   a = a + a\n  return x"),
    "deep": module(
        "for c in self.c:\n   x = x + c(x + c(x))\n  return x",
        "self.c = nn.ModuleList([nn.Conv2d(3, 512, 3) for i in range(256)])",
    ),
    "absurd sizes": module(
        "return self.d(self.b(self.r(self.g(self.p(self.a(x))))))",
        "self.a = nn.Conv2d(3, 10**8, -5, stride=0, padding=10**8, groups=0)\n"
        "  self.b = nn.Linear(1, 1e300); self.d = nn.Dropout(-3)\n"
        "  self.p = nn.MaxPool2d(0, -1); self.g = nn.GroupNorm(0, 0)\n"
        "  self.r = nn.LSTM(1, 10**8, 10**8)",
    ),
    "strange syntax": module(
        "global q\n  del x\n  assert 0\n  x = [*a, *x]; x[0] = 1; (yield x)\n"
        "  while True: pass\n  match x:\n   case 1: return 1\n  async def f(): await x\n"
        "  return {**kw} | {1, 2} if not x else lambda: x[::0] @ x"
    ),
    "odd arguments": module(
        "for i in range(1, 2, 3, 4): x = x + i\n  return f(x, *range(0, 9, 0), **{1: 2})"
    )
    + "def f(a=1, /, b=2, *c, d=3): return f(a, b, d=d)\n",
    "a list of itself": module("return self.a(x)", "self.a = []; self.a.append(self.a)"),
    "a class without forward": module("return B()(x)") + "class B(nn.Sequential): pass\n",
    "wrong types": module(
        "return self.c[0](x, *3, **4)(x.y.z(x))['k'][None:'a'] + {}[[]] - 'a' < x",
        "self.c = nn.Conv2d('a', None, [], {}, ())",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_parents(name: str) -> None:
    """Nothing that stands in a parent raises or hangs; the child is a network all the same."""
    for operator, prompt in [("mutation", 6), ("crossover", -1)]:
        parents = (HOSTILE[name], CIFAR.initial_source)
        check(ask(CIFAR, prompt, operator=operator, parents=parents, seed=1), CIFAR)


def test_a_parent_is_never_executed(tmp_path: Path) -> None:
    """Code that would leave a trace leaves none."""
    trace = tmp_path / "trace"
    source = f"open({str(trace)!r}, 'w').write('ran')\n" + RESNET.replace(
        "self.inputs = 16", f"self.inputs = 16; open({str(trace)!r}, 'w')"
    )
    check(ask(CIFAR, 2, parents=(source,)), CIFAR)
    assert not trace.exists()


@given(st.text(alphabet="Net:x=()[]*,.+\n self.nn1", max_size=80))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_random_text_is_a_parent_like_any(text: str) -> None:
    """Any text at all can be read or declined."""
    found = read(f"class Net:\n def forward(self, x):\n  {text}\n  return x")
    assert found is None or found


def test_what_people_wrote() -> None:
    """Networks that the gate must let in are read, all but a few, and give children."""
    readable = 0
    sources = [file.read_text(encoding="utf-8") for file in HONEST]
    for number, source in enumerate(sources):
        readable += read(source) is not None
        check(ask(CIFAR, number % 13, parents=(source,), seed=number), CIFAR)
    assert readable >= 43


def test_what_language_models_wrote(test_data: Path) -> None:
    """Real completions that are Python give children that keep something of them."""
    readable = number = 0
    for file in sorted((test_data / "completions").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            source = _code(record["completion"], record["form"])
            found = read(source)
            readable += found is not None
            number += 1
            child = ask(CIFAR, number % 13, parents=(source,), seed=number, temperature=0.3)
            if number % 5 == 0:
                check(child, CIFAR)
            if found:
                sites = sites_of(fitted(found, SHAPE, CLASSES), SHAPE)
                assert size_of(sites).layers <= MAX_LAYERS
    assert readable > 100


def _code(completion: str, form: str) -> str:
    """The source in a completion, crudely: the first fence, or the first class until it ends."""
    if form == "chat":
        fence = re.search(r"```(?:python)?\n(.*?)(?:```|\Z)", completion, re.DOTALL)
        return fence.group(1) if fence else completion
    lines = ("class Net(nn.Module):" + completion).splitlines()
    ends = (i for i, line in enumerate(lines) if i and line[:1] not in ("", " ", "\t", "#"))
    return "\n".join(lines[: next(ends, len(lines))])


@pytest.mark.parametrize("shape", [(6, 64), (1, 3000), (2, 1), (13,), (1,)])
def test_networks_of_sequences_and_tables_are_read_as_they_were_written(
    shape: tuple[int, ...],
) -> None:
    """Layer by layer, recurrent ones and what is rearranged around them, too."""
    for seed in range(60):
        network = fitted(fresh(shape, random.Random(seed)), shape, 4)
        if len(shape) == 2 and seed % 3 == 0:  # a map again behind a recurrent layer
            more = (Recurrent("GRU", 8, output="map"), Recurrent("LSTM", 4, output="map"), Act())
            network = fitted((*more, *network), shape, 4)
            assert more[0] in network
        read_again = read(written(network, shape), 1 if len(shape) == 2 else 2)
        assert read_again is not None
        assert fitted(read_again, shape, 4) == network


def test_others_networks_of_sequences() -> None:
    """Modules and functions of one dimension, and means over the steps."""
    source = """
import torch.nn as nn
import torch.nn.functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv1d(6, 16, 7, stride=2, padding=3), nn.BatchNorm1d(16),
                                      nn.ReLU(), nn.MaxPool1d(3, stride=2, padding=1))
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.conv = nn.Conv1d(32, 32, 3, padding=1, groups=32)
        self.drop = nn.Dropout1d(0.2)
        self.head = nn.Linear(32, 4)
    def forward(self, x):
        x, _ = self.lstm(self.features(x).transpose(1, 2))
        x = self.drop(F.avg_pool1d(self.conv(x.permute(0, 2, 1)), 2))
        return self.head(x.mean(-1))
"""
    assert read(source, 1) == [
        Conv(16, 7, 2, 3),
        Norm("batch"),
        Act("relu"),
        Pool("max", 3, 2, 1),
        Recurrent("LSTM", 32, output="map"),
        Depthwise(3, 1, 1),
        Pool("avg", 2, 2, 0),
        Dropout(0.2, True),
        AdaptivePool("avg", 1),
        Flatten(),
        Linear(4),
    ]
