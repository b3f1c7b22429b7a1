"""Cells as models write them: well, almost, and not at all; completions for a replay."""

from __future__ import annotations

import json

from ..problems.nasbench201.spellings import HEAD, SPELLINGS

HELPERS = """\
class Zero(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def relu_conv3x3_bn(channels):
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
    )


def relu_conv1x1_bn(channels):
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


def avg_pool3x3():
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
"""

INIT = (
    "self.edge_0_1 = relu_conv3x3_bn(channels)",
    "self.edge_0_2 = nn.Identity()",
    "self.edge_1_2 = Zero()",
    "self.edge_0_3 = avg_pool3x3()",
    "self.edge_1_3 = Zero()",
    "self.edge_2_3 = relu_conv1x1_bn(channels)",
)
NODES = (
    "node_1 = self.edge_0_1(x)",
    "node_2 = self.edge_0_2(x) + self.edge_1_2(node_1)",
)
SUM = "self.edge_0_3(x) + self.edge_1_3(node_1) + self.edge_2_3(node_2)"

EDGES = (
    "relu_conv1x1_bn(channels)",
    "avg_pool3x3()",
    "nn.Conv2d(channels, channels, 3, padding=1)",
    "nn.Conv2d(channels, channels, 5, padding=2)",
    "nn.Conv2d(channels, 64, 3, stride=2, groups=4)",
    "nn.Conv1d(channels, channels, kernel_size=1)",
    "nn.Conv2d(channels, channels)",
    "nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False))",
    "nn.MaxPool2d(2)",
    "nn.AdaptiveAvgPool2d(1)",
    "nn.Sequential(avg_pool3x3(), nn.Dropout(0.5))",
    "relu_conv3x3_bn()",
    "avg_pool3x3(channels)",
    "relu_conv_3x3_bn(channels)",
    "skip_connection()",
    "'nor_conv_1x1'",
    "self.relu_conv3x3_bn(channels)",
    "nn.Identity",
    "mystery(channels)",
)
"""Expressions that an edge is given."""

ENDS = (
    (f"return {SUM} + self.edge_3(x)",),
    ("return edge_0_3(x) + self.edge_2_3(node_2)",),
    (f"x = {SUM}", "return nn.functional.relu(x)"),
    (f"return {SUM} + node_2",),
    ("return torch.cat([self.edge_0_3(x), self.edge_2_3(node_2)], 1)",),
    ("return self.edge_0_3(x) - self.edge_2_3(node_2)",),
    ("return relu_conv3x3_bn(x) + self.edge_2_3(node_2)",),
    ("return self.edge_0_3(x, node_1) + self.edge_2_3(node_2)",),
    ("node_3 = self.edge_0_3(node_2)", "return self.edge_2_3(node_3)"),
    ("pass",),
    ("return self.forward(x)",),
    ("return 7",),
    ("while True:", "    x = self.edge_0_1(x)", "return x"),
    ("return sum(f(x) for f in (self.edge_0_3, self.edge_1_3, self.edge_2_3))",),
)
"""Ways in which the output comes about."""

HOPELESS = (
    "",
    "nonsense(",
    "class Net:\n    pass\n",
    "import os\n\nos.remove('x')\n",
    f"{HEAD}class Net(nn.Module):\n    pass\n",
)


def texts() -> list[str]:
    """All sources, in a fixed order; some spell a cell that came before."""
    edges = [
        net(tuple(f"{line.partition(' = ')[0]} = {text}" if i == number else line
                  for i, line in enumerate(INIT)))
        for text in EDGES for number in (1, 5)
    ]  # fmt: skip
    ends = [net(end=end) for end in ENDS]
    return [*SPELLINGS.values(), net(), *edges, *ends, *HOPELESS, net()]


def net(init: tuple[str, ...] = INIT, end: tuple[str, ...] = (f"return {SUM}",)) -> str:
    """A source in the style in which the search begins."""
    return (
        f"{HEAD}{HELPERS}\n\nclass Net(nn.Module):\n    def __init__(self, channels):\n"
        + "".join(f"        {line}\n" for line in ("super().__init__()", *init))
        + "\n    def forward(self, x):\n"
        + "".join(f"        {line}\n" for line in (*NODES, *end))
    )


def completions() -> list[str]:
    """Lines for a replay: each text as an answer of a chat."""
    return [
        json.dumps({"completion": f"```python\n{text}```\n", "form": "chat"}) for text in texts()
    ]
