"""One digest for one network: what is spelled differently is equal, what differs is not."""

from __future__ import annotations

import ast
import inspect
import random
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llmatic_hpc.evaluation import build
from llmatic_hpc.source import canonical
from llmatic_hpc.source.canonical import canonical_sha256

from .networks import HEADER, NETWORKS

NET = (
    HEADER
    + '''
WIDTH = 8


def activate(t, slope=0.1):
    return F.leaky_relu(t, slope)


class Block(nn.Module):
    """A block."""

    def __init__(self, channels: int, kernel=3):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel, padding=1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        out = activate(self.norm1(self.conv1(x)))
        return self.relu(out + x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList([Block(WIDTH) for i in range(2)])
        self.fc = nn.Linear(WIDTH, 10)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        x = x.mean((2, 3))
        return self.fc(x)
'''
)

SPELLED = '''
from torch import nn, Tensor
from torch.nn import Module
import torch


class Unused(nn.Module):
    def forward(self, x):
        return x


class Residual(Module):
    # another name
    def __init__(this, c, k=3):
        super().__init__()
        this.convolution = torch.nn.Conv2d(c, c, kernel_size=k, padding=1)
        this.normalise = nn.BatchNorm2d(num_features=c)
        this.act = nn.ReLU()

    def forward(this, inputs: Tensor) -> Tensor:
        hidden = act(this.normalise(this.convolution(inputs)))
        return this.act(hidden + inputs)


CH = 8


def act(z, a=0.1):
    """Leaky."""
    return nn.functional.leaky_relu(z, a)


class Model(Module):
    """The network."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, CH, 3, padding=1)
        self.middle = nn.ModuleList([Residual(CH) for _ in range(2)])
        self.last = nn.Linear(CH, out_features=10)

    def forward(self, image):
        image = torch.nn.functional.relu(self.first(image))
        for layer in self.middle:
            image = layer(image)
        image = image.mean((2, 3))
        return self.last(image)


if __name__ == "__main__":
    net = Model()
    print(net(torch.randn(1, 3, 32, 32)))
'''


def test_the_same_network_in_other_words() -> None:
    """Names, order, imports, comments, keywords, annotations and dead code do not count."""
    assert canonical_sha256(NET) == canonical_sha256(SPELLED)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("WIDTH = 8", "WIDTH = 16"),
        ("nn.Conv2d(3, WIDTH, 3, padding=1)", "nn.Conv2d(3, WIDTH, 3, padding=2)"),
        ("nn.Conv2d(3, WIDTH, 3, padding=1)", "nn.Conv2d(3, WIDTH, 3, stride=1, padding=1)"),
        ("nn.Conv2d(3, WIDTH, 3, padding=1)", "nn.Conv2d(3, WIDTH, 3, bias=1)"),
        ("nn.ReLU()", "nn.GELU()"),
        ("nn.ReLU()", "nn.ReLU6()"),
        ("F.relu(self.stem(x))", "torch.tanh(self.stem(x))"),
        ("F.relu(self.stem(x))", "self.stem(F.relu(x))"),
        ("slope=0.1", "slope=0.2"),
        ("slope=0.1", "slope=1"),
        ("range(2)", "range(3)"),
        ("range(2)", "range(2.0)"),
        ("range(2)", "range(True)"),
        ("kernel=3", "kernel=1"),
        ("out + x", "out - x"),
        ("out + x", "out + out"),
        ("out + x", "x + out"),
        ("x.mean((2, 3))", "x.amax((2, 3))"),
        ("x.mean((2, 3))", "x.mean((3, 2))"),
        ("self.norm1(self.conv1(x))", "self.conv1(self.norm1(x))"),
        ("        x = x.mean", "        x = block(x)\n        x = x.mean"),
        ("            x = block(x)", "            x = x + block(x)"),
        ("            x = block(x)", "            y = block(x)"),
        ("return self.fc(x)", "return self.fc(x), x"),
        ("return self.relu(out + x)", "return self.relu(out) + x"),
        ("        self.relu = nn.ReLU()\n", "        self.relu = activate\n"),
        ("(nn.Module):\n    def __init__(self):", "(nn.Module):\n    def __init__(self, a=1):"),
        ("nn.ModuleList([Block", "list([Block"),
    ],
)
def test_another_network_has_another_digest(old: str, new: str) -> None:
    """Layers, arguments, types of constants, and the order of calls count."""
    assert old in NET
    assert canonical_sha256(NET.replace(old, new)) != canonical_sha256(NET)


def test_the_order_of_initialisation_counts() -> None:
    """Layers draw their weights in order, so another order is another network."""
    one = "        self.norm1 = nn.BatchNorm2d(channels)\n"
    two = "        self.relu = nn.ReLU()\n"
    assert one + two in NET
    assert canonical_sha256(NET.replace(one + two, two + one)) != canonical_sha256(NET)


def test_attributes_of_torch_keep_their_names() -> None:
    """x.shape and x.mT, .weight and .bias are not the candidate's to name."""

    def net(body: str, init: str = "pass") -> str:
        return (
            f"{HEADER}class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            f"        self.a = nn.Linear(9, 9)\n        self.b = nn.Linear(9, 9)\n        {init}\n"
            f"    def forward(self, x):\n        return {body}\n"
        )

    pairs = [
        ("self.a(x).mT", "self.a(x).T"),
        ("x @ self.a.weight", "x @ self.a.bias"),
        ("self.a(x).sum()", "self.a(x).mean()"),
        ("self.a(x)", "self.b(x)"),
        ("self.a(self.b(x))", "self.b(self.a(x))"),
        ("self.a.in_features * x", "self.a.out_features * x"),
    ]
    for one, other in pairs:
        assert canonical_sha256(net(one)) != canonical_sha256(net(other))
    # The name of an own attribute that tensors have, too, is only free behind self.
    mine, other = (
        net("self.relu(x)", "self.relu = nn.ReLU()"),
        net("self.q(x)", "self.q = nn.ReLU()"),
    )
    assert canonical_sha256(mine) == canonical_sha256(other)
    mine = net("self.relu(x.relu())", "self.relu = nn.ReLU()")
    other = net("self.gelu(x.gelu())", "self.gelu = nn.ReLU()")
    assert canonical_sha256(mine) != canonical_sha256(other)


def test_names_that_strings_say_are_kept() -> None:
    """Attributes that are reached by their names are not renamed."""
    base = (
        f"{HEADER}class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.NAME = nn.Linear(3072, 10)\n        self.other = nn.Linear(10, 10)\n"
        "        for n, p in self.named_parameters():\n"
        "            if 'fc' in n: p.requires_grad = False\n"
        "    def forward(self, x):\n        return self.other(self.NAME(x.flatten(1)))\n"
    )
    one, other = base.replace("NAME", "fc"), base.replace("NAME", "head")
    assert canonical_sha256(one) != canonical_sha256(other)


def test_parameters_that_keywords_name_are_kept() -> None:
    """f(a=1, b=2) depends on which parameter is which."""
    base = (
        f"{HEADER}def f(P, Q):\n    return P - Q\n\n\nclass Net(nn.Module):\n"
        "    def forward(self, x):\n        return f(a=x, b=1)\n"
    )
    one = base.replace("P", "a").replace("Q", "b")
    other = base.replace("P", "b").replace("Q", "a")
    assert canonical_sha256(one) != canonical_sha256(other)


def test_a_definition_below_its_use_is_another_source() -> None:
    """A class that derives from one below it cannot be executed; it is not the same."""
    base = "class Base(nn.Module):\n    def forward(self, x):\n        return x\n\n\n"
    derived = "class Net(Base):\n    pass\n\n\n"
    assert canonical_sha256(HEADER + base + derived) != canonical_sha256(HEADER + derived + base)


def test_shadowed_names_are_not_confused() -> None:
    """A local variable, a parameter, a builtin and a global of one name are four things."""
    base = (
        f"{HEADER}k = 2\n\n\nclass Net(nn.Module):\n    def forward(self, x):\n"
        "        k = 3\n        return x * NAME\n"
    )
    digests = {canonical_sha256(base.replace("NAME", name)) for name in ("k", "x", "self", "len")}
    digests.add(canonical_sha256(base.replace("        k = 3\n", "").replace("NAME", "k")))
    assert len(digests) == 5
    one = "[[a for a in b] for b in x]"
    other = "[[b for a in b] for b in x]"
    nets = [base.replace("x * NAME", body) for body in (one, other)]
    assert canonical_sha256(nets[0]) != canonical_sha256(nets[1])


def test_repeated_definitions_count_once() -> None:
    """A model that writes its class three times has written one network."""
    body = NETWORKS["functional"].removeprefix(HEADER)
    once = HEADER + body
    assert canonical_sha256(HEADER + 3 * body) == canonical_sha256(once)


@pytest.mark.parametrize("source", ["", "(", "\0", "x = '\ud800'", "x = " + "-" * 50_000 + "1"])
def test_what_does_not_parse_has_none(source: str) -> None:
    """An empty digest, and no exception."""
    assert canonical_sha256(source) == "" or re.fullmatch("[0-9a-f]{64}", canonical_sha256(source))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_its_own(name: str) -> None:
    """No two of the honest networks are confused, and layout does not matter."""
    digest = canonical_sha256(NETWORKS[name])
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert canonical_sha256(ast.unparse(ast.parse(NETWORKS[name]))) == digest
    assert [n for n in NETWORKS if canonical_sha256(NETWORKS[n]) == digest] == [name]


def test_signatures_are_those_of_torch() -> None:
    """The order of arguments that keywords are sorted by is torch's own."""
    for path, names in canonical.SIGNATURES.items():
        layer = getattr(nn, path.rpartition(".")[2])
        parameters = list(inspect.signature(layer.__init__).parameters)[1:]
        assert parameters[: len(names)] == list(names), path


# --- renaming by machine ------------------------------------------------------------------------


class _Rename(ast.NodeTransformer):
    """Renames the locals, classes, functions and own attributes of NET."""

    def __init__(self, mapping: dict[str, str]) -> None:
        self.mapping = mapping

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("id", "arg", "attr", "name"):
            value = getattr(node, field, None)
            named = isinstance(value, str) and not isinstance(node, (ast.alias, ast.keyword))
            if named and value in self.mapping:
                setattr(node, field, self.mapping[value])
        return node


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_renaming_and_reordering_is_the_same(rng: random.Random) -> None:
    """Consistent renaming and another order of definitions never change the digest."""
    names = (
        "WIDTH activate t slope Block channels kernel conv1 norm1 out Net stem blocks fc block i"
    )
    fresh = [f"n{k}" for k in rng.sample(range(100), len(names.split()))]
    tree = _Rename(dict(zip(names.split(), fresh, strict=True))).visit(ast.parse(NET))
    head = [s for s in tree.body if isinstance(s, ast.Import)]
    rest = [s for s in tree.body if not isinstance(s, ast.Import)]
    network_class = rest.pop()
    rng.shuffle(head)
    rng.shuffle(rest)
    tree.body = [*head, *rest, network_class]
    assert canonical_sha256(ast.unparse(tree)) == canonical_sha256(NET)


def test_equal_digests_are_equal_networks() -> None:
    """The two spellings draw the same weights and compute the same numbers."""
    outputs = []
    for source in (NET, SPELLED):
        torch.manual_seed(0)
        model = build.build(source).eval()
        with torch.no_grad():
            outputs.append(model(torch.ones(1, 3, 32, 32)))
    assert torch.equal(outputs[0], outputs[1])
