"""Texts of small models beside the cells, and what the rules make of them."""

from __future__ import annotations

import pytest

from llmatic_hpc.problems.nasbench201.cells import NONE, SKIP, Cell
from llmatic_hpc.problems.nasbench201.reader.layers import NotACell
from llmatic_hpc.problems.nasbench201.reader.mend import MOST_REPAIRS, RULES, mend
from llmatic_hpc.problems.nasbench201.write import HELPERS, source
from llmatic_hpc.types import Repair

from .reading import traced
from .spellings import HEAD

INIT = (
    "self.edge_0_1 = relu_conv3x3_bn(channels)",
    "self.edge_0_2 = nn.Identity()",
    "self.edge_1_2 = Zero()",
    "self.edge_0_3 = avg_pool3x3()",
    "self.edge_1_3 = Zero()",
    "self.edge_2_3 = relu_conv1x1_bn(channels)",
)
FORWARD = (
    "node_1 = self.edge_0_1(x)",
    "node_2 = self.edge_0_2(x) + self.edge_1_2(node_1)",
    "return self.edge_0_3(x) + self.edge_1_3(node_1) + self.edge_2_3(node_2)",
)
PARENT: Cell = (3, 1, 0, 4, 0, 2)


def net(init: tuple[str, ...] = INIT, forward: tuple[str, ...] = FORWARD) -> str:
    return (
        f"{HEAD}{HELPERS}\n\nclass Net(nn.Module):\n    def __init__(self, channels):\n"
        + "".join(f"        {line}\n" for line in ("super().__init__()", *init))
        + "\n    def forward(self, x):\n"
        + "".join(f"        {line}\n" for line in forward)
    )


def edge(number: int, text: str) -> str:
    """The parent with another text for what an edge is."""
    name = INIT[number].partition(" = ")[0]
    return net(tuple(f"{name} = {text}" if i == number else s for i, s in enumerate(INIT)))


def with_edge(number: int, operation: int) -> Cell:
    return (*PARENT[:number], operation, *PARENT[number + 1 :])  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("text", "operation"),
    [
        ("nn.Conv2d(channels, channels, 3, padding=1)", 3),
        ("nn.Conv2d(channels, channels, 1)", 2),
        ("nn.Conv2d(channels, channels, 5, padding=2)", 3),
        ("nn.Conv2d(channels, 64, 3, stride=2, groups=4)", 3),
        ("nn.Conv2d(channels, channels, 3, padding=1, dilation=2)", 3),
        ("nn.Conv1d(channels, channels, kernel_size=1)", 2),
        ("nn.Conv2d(channels, channels)", 3),
        ("nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), "
         "nn.ReLU())", 3),
        ("nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False))", 2),
        ("nn.MaxPool2d(2)", 4),
        ("nn.AvgPool2d(5, stride=1, padding=2)", 4),
        ("nn.AvgPool2d(3)", 4),
        ("nn.AdaptiveAvgPool2d(1)", 4),
        ("nn.Sequential(avg_pool3x3(), nn.Dropout(0.5))", 4),
        ("nn.Sequential(nn.BatchNorm2d(channels), avg_pool3x3())", 4),
        ("relu_conv3x3_bn()", 3),
        ("avg_pool3x3(channels)", 4),
        ("relu_conv3x3_bn(in_channels)", 3),
        ("relu_conv_3x3_bn(channels)", 3),
        ("conv1x1(channels)", 2),
        ("skip_connection()", 1),
        ("AvgPool3x3()", 4),
        ("Zeros()", 0),
        ("'nor_conv_1x1'", 2),
        ("self.relu_conv3x3_bn(channels)", 3),
        ("Zero", 0),
        ("nn.Identity", 1),
        ("mystery(channels)", 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("number", [1, 5])
def test_what_an_edge_is(text: str, operation: int, number: int) -> None:
    broken = edge(number, text)
    with pytest.raises(NotACell):
        traced(broken)
    cell, repairs = mend(broken)
    assert cell == with_edge(number, operation)
    assert repairs[0].rule == "operation"
    assert "edge" in repairs[0].before
    with pytest.raises(NotACell):
        mend(broken, without=RULES)


def forward(*last: str) -> str:
    return net(forward=(*FORWARD[:2], *last))


SUM = "self.edge_0_3(x) + self.edge_1_3(node_1) + self.edge_2_3(node_2)"


@pytest.mark.parametrize(
    ("text", "cell", "rules"),
    [
        # a name that nobody defined
        (forward(f"return {SUM} + self.edge_3(x)"), PARENT, ["nodes"]),
        (forward("return edge_0_3(x) + self.edge_2_3(node_2)"), PARENT, ["nodes"]),
        (forward("return self.edge_0_3(x) + self.edge_2_3(node_2) + node_9"), PARENT, ["nodes"]),
        # a layer behind the cell
        (forward(f"x = {SUM}", "return nn.functional.relu(x)"), PARENT, ["nodes"]),
        (forward(f"x = {SUM}", "x = self.dropout(x)", "return x"), PARENT, ["nodes"]),
        (net((*INIT, "self.bn = nn.BatchNorm2d(channels)"),
             (*FORWARD[:2], f"node_3 = {SUM}", "return self.bn(node_3)")), PARENT, ["nodes"]),
        (net((*INIT, "self.pool = avg_pool3x3()"),
             (*FORWARD[:2], f"node_3 = {SUM}", "return self.pool(node_3)")),
         with_edge(2, 4), ["nodes", "unused"]),
        # two operations on an edge
        (net((*INIT, "self.new = relu_conv3x3_bn(channels)"),
             (*FORWARD[:2], f"return {SUM} + self.new(node_2)")), with_edge(5, 3),
         ["nodes", "edge"]),
        (net((*INIT, "self.new = relu_conv3x3_bn(channels)"),
             (*FORWARD[:2], f"return self.new(node_2) + {SUM}")), with_edge(5, 3),
         ["nodes", "edge"]),
        (forward(f"return {SUM} + node_2"), PARENT, ["nodes"]),
        # made and forgotten, beside something that is wrong
        (net((*INIT, "self.new = nn.Conv2d(channels, channels, 3)"),
             (*FORWARD[:2], f"return {SUM} + self.old(x)")), with_edge(2, 3),
         ["nodes", "unused"]),
        (net((*INIT[:4], "self.edge_1_3 = nn.Identity()", INIT[5]),
             (*FORWARD[:2], "return self.edge_0_3(x) + self.edge_2_3(node_2) + self.edge_9(x)")),
         with_edge(4, SKIP), ["nodes"]),
        # sums
        (forward(f"return self.edge_0_3(x) * ({SUM.partition(' + ')[2]})"), PARENT, ["nodes"]),
        (forward("return torch.cat([self.edge_0_3(x), self.edge_2_3(node_2)], 1)"), PARENT,
         ["nodes"]),
        (forward("return self.edge_0_3(x) - self.edge_2_3(node_2)"), PARENT, ["nodes"]),
        # wiring that is none of a cell
        (net(forward=("y = self.edge_0_1(x)", "y = self.edge_0_2(y) + self.edge_1_2(y)",
                      "y = self.edge_0_3(y)", "return self.edge_2_3(y)")), PARENT, ["nodes"]),
        (net(forward=("pass",)), PARENT, ["nodes"]),
        (net().rpartition("    def forward")[0], PARENT, ["nodes"]),
        # calls
        (forward("return relu_conv3x3_bn(x) + self.edge_2_3(node_2)"), with_edge(3, 3),
         ["nodes", "edge"]),
        (forward("return nn.ReLU(x) + self.edge_0_3(x) + self.edge_2_3(node_2)"), with_edge(3, 4),
         ["nodes"]),
        (forward("return self.edge_0_3(x, node_1) + self.edge_2_3(node_2)"), PARENT,
         ["nodes"]),
    ],
)  # fmt: skip
def test_how_nodes_are_joined(text: str, cell: Cell, rules: list[str]) -> None:
    with pytest.raises(NotACell):
        traced(text)
    found, repairs = mend(text)
    assert found == cell
    assert [repair.rule for repair in repairs] == rules
    assert traced(source(found)) == found


def test_a_repair_says_what_became_of_a_line() -> None:
    _, repairs = mend(edge(1, "nn.Conv2d(channels, channels, 5, padding=2)"))
    assert repairs == [
        Repair(
            "operation",
            "self.edge_0_2 = nn.Conv2d(channels, channels, 5, padding=2)",
            "self.edge_0_2 = relu_conv3x3_bn(channels)",
        )
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense(",
        "class Net:\n    pass\n",
        "class Net(nn.Module):\n    def forward(self, x):\n        return 7\n",
        net(("self.a = relu_conv3x3_bn(channels)",), ("return self.a(self.b(x))",)),
        "class Net(nn.Module):\n    def forward(self, x):\n        return self.forward(x)\n",
    ],
)
def test_what_no_rule_helps(text: str) -> None:
    with pytest.raises(NotACell):
        mend(text)


def test_repairs_are_bounded() -> None:
    lines = tuple(f"node_1 = self.conv_{i}(x)" for i in range(100))
    cell, repairs = mend(net((*INIT, "self.a = nn.MaxPool2d(2)"), (*lines, *FORWARD)))
    assert len(repairs) == MOST_REPAIRS
    assert NONE in cell
