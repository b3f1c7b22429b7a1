"""A cell as PyTorch code: what the search begins with, and what a mended candidate becomes."""

from __future__ import annotations

import re
from functools import cache, lru_cache

from .cells import CONV1, CONV3, EDGES, NONE, POOL, SKIP, Cell

IMPORTS = "import torch\nimport torch.nn as nn\n"

ZERO = """\
class Zero(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)
"""

RELU_CONV3X3_BN = """\
def relu_conv3x3_bn(channels):
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
    )
"""

RELU_CONV1X1_BN = """\
def relu_conv1x1_bn(channels):
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )
"""

AVG_POOL3X3 = """\
def avg_pool3x3():
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
"""

HELPERS = f"{ZERO}\n\n{RELU_CONV3X3_BN}\n\n{RELU_CONV1X1_BN}\n\n{AVG_POOL3X3}"
"""All that a cell may be built of; a source has those that it uses."""

SPELLINGS = {
    NONE: "Zero()",
    SKIP: "nn.Identity()",
    CONV1: "relu_conv1x1_bn(channels)",
    CONV3: "relu_conv3x3_bn(channels)",
    POOL: "avg_pool3x3()",
}
"""Expressions by which an edge's line says its operation."""

SPELLED = {text: operation for operation, text in SPELLINGS.items()}
"""Operations by these expressions."""

_EDGE = re.compile(r"^        self\.edge_\d_\d = (.*)$", re.MULTILINE)
_DEFINITIONS = {NONE: ZERO, CONV3: RELU_CONV3X3_BN, CONV1: RELU_CONV1X1_BN, POOL: AVG_POOL3X3}

_FORWARD = """\
    def forward(self, x):
        node_1 = self.edge_0_1(x)
        node_2 = self.edge_0_2(x) + self.edge_1_2(node_1)
        return self.edge_0_3(x) + self.edge_1_3(node_1) + self.edge_2_3(node_2)
"""


@cache
def source(cell: Cell) -> str:
    """The canonical source of a cell: every edge on a line of its own, in the order of ``EDGES``.

    A model that wants another cell has to change these six lines and nothing else. Helpers that
    the cell does not use are left out.
    """
    used = [text for operation, text in _DEFINITIONS.items() if operation in cell]
    edges = "".join(
        f"        self.edge_{origin}_{end} = {SPELLINGS[operation]}\n"
        for (origin, end), operation in zip(EDGES, cell, strict=True)
    )
    network = (
        "class Net(nn.Module):\n"
        "    def __init__(self, channels):\n"
        f"        super().__init__()\n{edges}\n{_FORWARD}"
    )
    return "\n\n".join([IMPORTS, *used, network])


@lru_cache(maxsize=1 << 14)  # room for every cell
def cell_written(text: str) -> Cell | None:
    """The cell whose canonical source ``text`` is; None for any other text."""
    operations = [SPELLED.get(line) for line in _EDGE.findall(text)]
    if len(operations) != len(EDGES) or None in operations:
        return None
    cell: Cell = tuple(operations)  # type: ignore[assignment]
    return cell if source(cell) == text else None
