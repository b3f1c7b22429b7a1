"""Cells as code: what is written, what is read, what is refused."""

from __future__ import annotations

import io
import random
import tokenize
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from llmatic_hpc.config import ContainmentSettings
from llmatic_hpc.evaluation import graph
from llmatic_hpc.evaluation.graph import Traced
from llmatic_hpc.problems.nasbench201.cells import (
    CONV1,
    CONV3,
    EDGES,
    NONE,
    POOL,
    SKIP,
    Cell,
    architecture,
    cell_of,
    cells,
)
from llmatic_hpc.problems.nasbench201.reader.layers import NotACell
from llmatic_hpc.problems.nasbench201.reader.mend import mend
from llmatic_hpc.problems.nasbench201.reader.read import CellReader
from llmatic_hpc.problems.nasbench201.reader.wiring import cell_of as cell_of_graph
from llmatic_hpc.problems.nasbench201.write import HELPERS, IMPORTS, cell_written, source

from .reading import traced
from .spellings import HEAD, ONE, SPELLINGS

ALL = list(cells())
SAMPLE = [cell for i, cell in enumerate(ALL) if i % 13 == 0 or cell.count(NONE) >= 5]


def test_a_source_is_written_as_promised() -> None:
    assert source((CONV3, SKIP, NONE, POOL, NONE, CONV1)) == (
        f"{IMPORTS}\n\n{HELPERS}\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, channels):\n"
        "        super().__init__()\n"
        "        self.edge_0_1 = relu_conv3x3_bn(channels)\n"
        "        self.edge_0_2 = nn.Identity()\n"
        "        self.edge_1_2 = Zero()\n"
        "        self.edge_0_3 = avg_pool3x3()\n"
        "        self.edge_1_3 = Zero()\n"
        "        self.edge_2_3 = relu_conv1x1_bn(channels)\n"
        "\n"
        "    def forward(self, x):\n"
        "        node_1 = self.edge_0_1(x)\n"
        "        node_2 = self.edge_0_2(x) + self.edge_1_2(node_1)\n"
        "        return self.edge_0_3(x) + self.edge_1_3(node_1) + self.edge_2_3(node_2)\n"
    )
    assert "Zero" not in source((CONV3,) * 6)
    assert "def " not in source((SKIP,) * 6).partition("class Net")[0]


@pytest.fixture(scope="module")
def reader() -> Iterator[CellReader]:
    with CellReader(ContainmentSettings(screen_seconds=5.0)) as made:
        yield made


def test_every_cell_comes_back() -> None:
    """Cells as written are recognised, dead edges included, and nothing else is."""
    for cell in ALL:
        text = source(cell)
        assert cell_written(text) == cell
    for changed in ("\n" + text, text + " ", text.replace("node_1", "n"), text[:-1], ""):
        assert cell_written(changed) is None


def test_a_traced_cell_comes_back() -> None:
    for cell in SAMPLE[::4]:
        assert traced(source(cell)) == cell


@pytest.mark.slow
def test_every_traced_cell_comes_back() -> None:
    assert [traced(source(cell)) for cell in ALL] == ALL


def test_sources_are_traced_in_children(reader: CellReader) -> None:
    """Those that are not canonical; what the gate forbids does not run."""
    sample = SAMPLE[::100]
    texts = [f"{source(cell)}# told apart\n" for cell in sample]
    assert [reading.cell for reading in reader.read(texts)] == sample
    hostile = texts[0].replace("super().__init__()", "super().__init__()\n        torch.os.abort()")
    missing = texts[0].replace("self.edge_0_1 =", "self.edge = hidden")
    verdicts = [(r.cell, r.status) for r in reader.read([hostile, missing, "", hostile])]
    assert verdicts == [
        (None, status) for status in ("forbidden", "invalid", "invalid", "forbidden")
    ]


# --- what a child says ---------------------------------------------------------------------------

INPUT, POOLED = Traced("input"), Traced("identity", (0,), label="edge_0_3")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[" * 5000,
        b"7",
        b'{"tensors": [], "output": 0}',
        graph.encode([INPUT, POOLED], 2),
        graph.encode([INPUT, POOLED], -1),
        graph.encode([POOLED], 0),
        graph.encode([INPUT, Traced("sum", (0, 1))], 1),
        graph.encode([INPUT, Traced("sum", (0,))], 1),
        graph.encode([INPUT, Traced("magic", (0,))], 1),
        graph.encode([INPUT, Traced("conv", (0,), {"stride": 1e300})], 1),
        graph.encode([INPUT, Traced("conv", (0,), {"stride": [1, 1, 1]})], 1),
        graph.encode([INPUT, Traced("conv", (0,), {"stride": 1 << 40})], 1),
        graph.encode([INPUT, Traced("other", (0,), text="\n")], 1),
        graph.encode([INPUT, Traced("other", (0,), label="x" * 1000)], 1),
        graph.encode([INPUT, *[Traced("relu", (0,))] * 200], 1),
    ],
)
def test_a_reply_that_is_no_graph(payload: bytes) -> None:
    with pytest.raises(ValueError):
        graph.decode(payload)


@pytest.mark.parametrize("seed", range(20))
def test_any_graph_is_a_cell_or_none(seed: int) -> None:
    """The judge ends with one of the cells or a reason, whatever a child claims."""
    chance = random.Random(seed)
    for _ in range(50):
        tensors = [INPUT]
        for number in range(1, chance.randint(2, 40)):
            kind = chance.choice(graph.KINDS[1:])
            origins = tuple(chance.randrange(number) for _ in range(2 if kind == "sum" else 1))
            sizes = {k: chance.choice([1, 3, 16, None, "same"])
                     for k in ("kernel_size", "in_channels", "out_channels", "num_features")
                     if chance.random() < 0.8}  # fmt: skip
            names = (chance.choice(["node_1", "node_2", "y"]),)
            tensors.append(Traced(kind, origins, sizes, "", "edge_1_3", names))
        found = graph.decode(graph.encode(tensors, chance.randrange(len(tensors))))
        assert isinstance(outcome(lambda found=found: cell_of_graph(found)), tuple | str)  # type: ignore[misc]


# --- equivalent spellings ------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_of_one_cell(name: str, reader: CellReader) -> None:
    assert architecture(traced(SPELLINGS[name])) == ONE
    assert reader.read([SPELLINGS[name]])[0].cell == cell_of(ONE)


def net(forward: str, init: str = "pass") -> str:
    """A network with the usual helpers."""
    lines = [f"        {line}\n" for line in init.split("\n")]
    body = [f"        {line}\n" for line in forward.split("\n")]
    return (
        f"{HEAD}{HELPERS}\n\n"
        "class Net(nn.Module):\n    def __init__(self, channels):\n        super().__init__()\n"
        "        self.conv3 = relu_conv3x3_bn(channels)\n"
        "        self.conv1 = relu_conv1x1_bn(channels)\n"
        "        self.conv = nn.Conv2d(channels, channels, 3, padding=1)\n"
        "        self.bn = nn.BatchNorm2d(channels)\n"
        "        self.pool = avg_pool3x3()\n        self.skip = nn.Identity()\n"
        "        self.zero = Zero()\n"
        f"{''.join(lines)}\n    def forward(self, x):\n{''.join(body)}"
    )


def short(cell: Cell) -> str:
    """A digit for each edge: 0 none, 1 skip, 2 and 3 convolutions 1x1 and 3x3, 4 pooling."""
    names = {NONE: "0", SKIP: "1", CONV1: "2", CONV3: "3", POOL: "4"}
    return "".join(names[operation] for operation in cell)


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        ("return x", "000100"),
        ("return self.skip(x)", "000100"),
        ("return torch.zeros_like(x)", "000000"),
        ("return self.conv3(x)", "000300"),
        ("return self.pool(x) + x", None),
        ("return self.pool(x) + self.zero(x)", "000400"),
        ("return self.pool(self.conv3(x))", "300040"),
        ("return self.conv1(self.pool(self.conv3(x)))", "304002"),
        ("a = self.conv3(x)\nreturn x + a + self.pool(a)", None),
        ("a = self.conv3(x)\nreturn x + self.pool(a)", "300140"),
        ("node_2 = self.conv3(x)\nreturn self.pool(node_2)", "030004"),
        ("h2 = self.conv3(x)\nreturn h2 + x", "030101"),
        (
            "node_2 = self.conv3(x)\nnode_1 = self.pool(x)\nreturn node_1 + self.conv1(node_2)",
            "430012",
        ),
        ("b = self.conv3(x)\na = self.pool(x)\nreturn self.skip(a) + self.conv1(b)", "340021"),
        ("y = x + self.zero(x)\ny = y + self.pool(self.conv3(x))\nreturn y", "300140"),
        ("y = x\ny = y + self.pool(x)\nreturn self.conv1(y)", None),
        ("a = self.conv3(x)\nb = a + self.pool(x)\nc = a + b\nreturn c", "341011"),
        ("a = self.pool(x)\nb = a + x\nreturn b + self.conv3(x) + self.conv1(a)", "411321"),
        ("node_1 = self.conv3(x)\nreturn x", "300100"),
        ("unused = self.conv3(x)\nreturn x", "000100"),
        ("y = F.relu(x)\nreturn self.bn(self.conv(y))", "000300"),
        ("y = x.relu()\ny = self.conv(y)\ny = self.bn(y)\nreturn y", "000300"),
        ("return sum([self.conv1(x), self.zero(x)], 0)", "000200"),
        ("return torch.sum(torch.stack([self.conv1(x), self.zero(x)]), dim=0)", "000200"),
        ("return F.avg_pool2d(x, (3, 3), (1, 1), padding=(1, 1))", "000400"),
        ("y = 0\nfor f in (self.pool, self.zero):\n    y = y + f(x)\nreturn y", "000400"),
        ("if self.training is None:\n    return x\nreturn self.pool(x)", "000400"),
    ],
)
def test_wirings(forward: str, expected: str | None) -> None:
    """None: no cell, or nothing that is followed."""
    if expected is None:
        with pytest.raises(NotACell):
            traced(net(forward))
    else:
        assert short(traced(net(forward))) == expected


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("init", "forward", "reason"),
    [
        ("self.c = nn.Conv2d(channels, channels, 5, padding=2)",
         "return self.bn(self.c(F.relu(x)))",
         "edge 0>3: Conv2d with kernel size 5; an edge carries a ReLU-conv-BN 3x3 or 1x1, an "
         "average pooling 3x3, a skip or nothing"),
        ("self.c = nn.Conv2d(channels, channels, 3, 2, 1)", "return self.bn(self.c(F.relu(x)))",
         "edge 0>3: Conv2d with stride 2"),
        ("self.c = nn.Conv2d(channels, channels, 3)", "return self.bn(self.c(F.relu(x)))",
         "edge 0>3: Conv2d with kernel size 3 and padding 0"),
        ("self.c = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)",
         "return self.bn(self.c(F.relu(x)))", "edge 0>3: Conv2d with groups channels"),
        ("self.c = nn.Conv2d(channels, channels, 3, 1, 2, 2)", "return self.bn(self.c(F.relu(x)))",
         "edge 0>3: Conv2d with dilation 2"),
        ("self.c = nn.Conv2d(channels, 2 * channels, 1)", "return self.bn(self.c(F.relu(x)))",
         "edge 0>3: Conv2d from channels to 2 * channels"),
        ("self.b = nn.BatchNorm2d(32)", "return self.b(self.conv(F.relu(x)))",
         "edge 0>3: BatchNorm2d(32) behind a convolution to channels"),
        ("", "node_1 = self.bn(self.conv(x))\nreturn self.pool(node_1)",
         "edge 0>1: Conv2d without a ReLU before it"),
        ("", "return self.conv(F.relu(x))", "edge 0>3: Conv2d without a batch norm behind it"),
        ("", "return F.relu(self.bn(self.conv(x)))", "edge 0>3: Conv2d without a ReLU before it"),
        ("", "return F.relu(x) + self.pool(x)", "edge 0>3: ReLU without a convolution"),
        ("", "node_1 = self.pool(x)\nreturn self.bn(node_1) + self.skip(node_1)",
         "edge 1>3: batch norm without a convolution"),
        ("", "a = self.pool(x)\nreturn self.skip(a) + self.conv3(a)",
         "edge 1>3: two operations (skip_connect, nor_conv_3x3)"),
        ("", "a = self.pool(x)\nb = self.pool(a)\nc = self.pool(b)\nreturn self.pool(c)",
         "three nodes between input and output; a cell has two"),
        ("self.m = nn.MaxPool2d(2)", "return self.m(x)",
         "edge 0>3: unknown operation MaxPool2d"),
        ("", "return F.dropout(self.pool(x), 0.5)",
         "edge 0>3: unknown operation dropout"),
        ("", "return F.avg_pool2d(x, 3, 1)", "edge 0>3: average pooling with padding 0"),
        ("", "return F.avg_pool2d(x, 3, padding=1)", "edge 0>3: average pooling with stride 3"),
        ("", "return self.pool(x) * self.conv3(x)", "line 44: multiplies two nodes"),
        ("", "return self.pool(x) * 0.5", "line 44: multiplies a node by 0.5"),
        ("", "return x - self.pool(x)", "line 44: an operation on nodes other than a sum (sub)"),
        ("", "return torch.cat([x, self.pool(x)], 1)",
         "line 44: concatenates nodes; a node is a sum"),
        ("", "return self.nowhere(x)",
         "line 44: AttributeError: 'Net' object has no attribute 'nowhere'"),
        ("", "return node_7", "line 44: NameError: name 'node_7' is not defined"),
        ("self.e = conv9x9(channels)", "return x",
         "line 41: NameError: name 'conv9x9' is not defined"),
        ("self.e = relu_conv3x3_bn()", "return x",
         "line 41: TypeError: relu_conv3x3_bn() missing 1 required positional argument: "
         "'channels'"),
        ("self.e = avg_pool3x3(channels)", "return x",
         "line 41: TypeError: avg_pool3x3() takes 0 positional arguments but 1 was given"),
        ("self.e = nn.Conv2d(channels, channels)", "return x",
         "line 41: TypeError: Conv2d.__init__() missing 1 required positional argument: "
         "'kernel_size'"),
        ("self.e = nn.Conv2d(channels, channels, 3, pad=1)", "return x",
         "line 41: TypeError: Conv2d.__init__() got an unexpected keyword argument 'pad'"),
        ("", "if x.mean() > 0:\n    x = self.pool(x)\nreturn x",
         "line 44: a branch that depends on the input"),
        ("", "while True:\n    x = self.pool(x)", "line 45: does more than any cell needs"),
        ("", "pass", "forward returns None, not what it made of its input"),
        ("self.a = nn.Conv2d(16, 16, 1)\nself.b = nn.Conv2d(32, 32, 1)",
         "a = nn.BatchNorm2d(16)(self.a(F.relu(x)))\nreturn nn.BatchNorm2d(32)(self.b(F.relu(a)))",
         "convolutions of 16 and 32 channels"),
        ("", "for i in range(10 ** 9):\n    x = self.pool(x)\nreturn x",
         "line 45: does more than any cell needs"),
        ("", "for i in range(1000000):\n    x = self.pool(x)\nreturn x",
         "line 45: does more than any cell needs"),
        ("", "for i in range(250):\n    for j in range(250):\n        x = self.pool(x)\nreturn x",
         "line 46: does more than any cell needs"),
        ("", "return self.forward(x)",
         "line 44: RecursionError: maximum recursion depth exceeded while calling a Python object"),
    ],
)  # fmt: skip
def test_refusals(init: str, forward: str, reason: str) -> None:
    with pytest.raises(NotACell) as raised:
        traced(net(forward, init or "pass"))
    assert str(raised.value) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no class that derives from nn.Module"),
        ("class Net:\n    pass\n", "no class that derives from nn.Module"),
        ("def f(:\n", "line 1: SyntaxError: invalid syntax"),
        ("x = '\0'", "line 1: NUL character"),
        (f"{HEAD}class Net(nn.Module):\n    pass\n", "class Net has no forward method"),
        ("(" * 500, "line 1: more than 100 nested brackets"),
        ("x = " + "-" * 1900 + "1",
         "RecursionError: maximum recursion depth exceeded while traversing 'expr' node"),
        ("class A(B):\n    pass\nclass B(A):\n    pass\n",
         "line 1: NameError: name 'B' is not defined"),
    ],
)  # fmt: skip
def test_texts_that_are_no_network(text: str, reason: str) -> None:
    with pytest.raises(NotACell) as raised:
        traced(text)
    assert str(raised.value) == reason
    with pytest.raises(NotACell):
        mend(text)


# --- against torch -------------------------------------------------------------------------------


def reference(cell: Cell, layers: list[nn.Module], x: Tensor) -> Tensor:
    """A cell as the paper has it: a node is the sum of the edges that lead to it."""
    nodes = [x]
    for node in (1, 2, 3):
        total = torch.zeros_like(x)
        for (start, end), operation, layer in zip(EDGES, cell, layers, strict=True):
            if end == node and operation != NONE:
                total = total + layer(nodes[start])
        nodes.append(total)
    return nodes[3]


def layer_of(operation: int) -> nn.Module:
    if operation in (CONV1, CONV3):
        kernel = 1 if operation == CONV1 else 3
        return nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(16, 16, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(16),
        )
    if operation == POOL:
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return nn.Identity()


def run(text: str, *args: int) -> nn.Module:
    """The last network of a text of ours."""
    names: dict[str, object] = {"__name__": "trusted"}
    exec(text, names)
    kinds = [v for v in names.values() if isinstance(v, type) and v.__module__ == "trusted"]
    made: nn.Module = kinds[-1](*args)
    return made


@pytest.mark.parametrize("number", range(12))
def test_the_written_cell_computes_the_cell(number: int) -> None:
    torch.manual_seed(number)
    cell = random.Random(number).choice(ALL)
    written = run(source(cell), 16).eval()
    layers = [layer_of(operation).eval() for operation in cell]
    for (start, end), layer in zip(EDGES, layers, strict=True):
        layer.load_state_dict(getattr(written, f"edge_{start}_{end}").state_dict())
    x = torch.randn(2, 16, 8, 8)
    assert torch.allclose(written(x), reference(cell, layers, x), atol=1e-5)


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_compute_the_cell(name: str) -> None:
    """With the same numbers in their convolutions and norms, in the order of use; pooling that
    counts the padding or not differs at the border, which is left aside."""
    torch.manual_seed(0)
    cell = cell_of(ONE)
    layers = [layer_of(operation).eval() for operation in cell]
    ours = [m for layer in layers for m in layer.modules() if isinstance(m, nn.Conv2d)]
    arguments = {"sixteen": (), "channels twice": (16, 16)}.get(name, (16,))
    spelled = run(SPELLINGS[name], *arguments).eval()
    called: list[nn.Module] = []
    handles = [
        m.register_forward_hook(lambda m, *_: called.append(m))
        for m in spelled.modules()
        if isinstance(m, nn.Conv2d)
    ]
    x = torch.randn(2, 16, 16, 16)
    spelled(x.clone())
    for handle in handles:
        handle.remove()
    assert len(called) == len(ours) == 3
    for conv, mine in zip(called, ours, strict=True):
        assert isinstance(conv, nn.Conv2d)
        mine.weight.data = conv.weight.data.clone()
        if conv.bias is not None:
            conv.bias.data.zero_()
    inner = (..., slice(3, -3), slice(3, -3))
    expected = reference(cell, layers, x)[inner]
    assert torch.allclose(spelled(x.clone())[inner], expected, atol=1e-5)


# --- any text ------------------------------------------------------------------------------------


def answers(reader: CellReader, texts: list[str]) -> None:
    """Every text ends with a cell or with a reason of one line, mended or not."""
    for text, reading in zip(texts, reader.read(texts), strict=True):
        if reading.cell is None:
            assert reading.status in ("invalid", "forbidden", "too_slow", "too_large")
            assert 0 < len(reading.failure) < 500
            assert "\n" not in reading.failure
        outcome(lambda text=text: mend(text)[0])  # type: ignore[misc]


def outcome(function: Callable[[], Cell]) -> Cell | str:
    try:
        cell = function()
    except NotACell as error:
        reason = str(error)
    else:
        assert cell in ALL
        return cell
    assert 0 < len(reason) < 300
    assert "\n" not in reason
    return reason


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=300))
@example("\ud800")
@example("# coding: utf-16\nx")
@example("class Net(nn.Module):\n def forward(self,x):return " + "x+" * 900 + "x")
@example("class Net(nn.Module):\n def forward(self,x):return " + "x.a" * 600)
@example("if 1:\n pass\n" + "elif 1:\n pass\n" * 3000)
def test_any_text_is_answered(reader: CellReader, text: str) -> None:
    answers(reader, [text])


@pytest.mark.parametrize(
    ("first", "repeated", "last"),
    [
        ("a = nn.ReLU()", "a = nn.Sequential(a, a)", "self.e = a"),
        ("a = nn.Sequential()", "a = nn.Sequential(a, a)", "self.e = nn.Sequential(a)"),
        ("a = 'a'", "a = a + a", "self.e = a"),
        ("a = channels", "a = 1000 * a", "self.e = nn.Conv2d(a, a, 1)"),
        ("def f(): return f() + f()", "f()", "self.e = f()"),
    ],
)
def test_work_that_doubles_is_answered(
    first: str, repeated: str, last: str, reader: CellReader
) -> None:
    doubled = net("return self.e(x)", "\n".join([first, *[repeated] * 60, last]))
    answers(reader, [doubled, net("\n".join(["a = x", *["a = a + a"] * 60, "return a"]))])


def mutated(text: str, chance: random.Random) -> str:
    """Tokens deleted, doubled, swapped, or replaced by another of the text."""
    try:
        tokens = [t.string for t in tokenize.generate_tokens(io.StringIO(text).readline)]
    except (tokenize.TokenError, IndentationError):
        return text
    spans = []
    position = 0
    for token in tokens:
        found = text.find(token, position) if token.strip() else -1
        if found >= 0:
            spans.append((found, found + len(token)))
            position = found + len(token)
    for _ in range(chance.randint(1, 4)):
        (a, b), (c, d) = sorted(chance.sample(spans, 2))
        if d > len(text) or b > c:
            continue
        kind = chance.randrange(4)
        one, other = text[a:b], text[c:d]
        text = (
            text[:a] + text[b:] if kind == 0
            else text[:b] + " " + one + text[b:] if kind == 1
            else text[:a] + other + text[b:c] + one + text[d:] if kind == 2
            else text[:a] + other + text[b:]
        )  # fmt: skip
    return text


def test_mutated_sources_are_answered(reader: CellReader) -> None:
    chance = random.Random(0)
    texts = [*SPELLINGS.values(), *(source(cell) for cell in chance.sample(ALL, 20))]
    answers(reader, [mutated(chance.choice(texts), chance) for _ in range(120)])


@pytest.mark.slow
def test_many_mutated_sources_are_answered(reader: CellReader) -> None:
    chance = random.Random(99)
    texts = [*SPELLINGS.values(), *(source(cell) for cell in chance.sample(ALL, 200))]
    answers(reader, [mutated(chance.choice(texts), chance) for _ in range(3_000)])
