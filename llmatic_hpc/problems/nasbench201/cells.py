"""The 15,625 cells of NAS-Bench-201: their names, their neighbours and their size.

A cell is a graph of four nodes; each of its six edges carries one of five operations (Dong and
Yang, ICLR 2020). The network around it is fixed: a 3x3 convolution, three stages of five cells
with 16, 32 and 64 channels, two residual blocks between them, and a linear classifier.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

from ...types import Descriptors

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""By their official names, in the official order; an operation is known by its index."""

NONE, SKIP, CONV1, CONV3, POOL = range(5)

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""From node to node, in the order in which an architecture string names them."""

_NAMES = [[f"{operation}~{origin}" for operation in OPERATIONS] for origin in range(3)]
"""Names of the operations on each edge, as an architecture string has them."""

Cell = tuple[int, int, int, int, int, int]
"""An operation for each of ``EDGES``."""

STAGES = 3
CELLS_PER_STAGE = 5
CHANNELS = 64
"""Channels of the last stage, the widest."""

SKELETON_DEPTH = 22
"""Executed layers outside the cells: the stem's 2, 8 of each residual block, and BN, ReLU, pooling
and classifier at the end."""

_LAYERS = {NONE: 0, SKIP: 0, CONV1: 3, CONV3: 3, POOL: 1}
"""Layers that an operation executes: a convolution comes with its ReLU and its batch norm."""


@dataclass(frozen=True)
class Dataset:
    """One of the benchmark's three sets of images."""

    name: str
    """As settings and tables say it."""
    title: str
    classes: int
    size: int
    """Height and width of an image, pixels."""


DATASETS = {
    "cifar10": Dataset("cifar10", "CIFAR-10", 10, 32),
    "cifar100": Dataset("cifar100", "CIFAR-100", 100, 32),
    "imagenet16_120": Dataset("imagenet16_120", "ImageNet16-120", 120, 16),
}

INITIAL: Cell = (NONE, NONE, NONE, SKIP, NONE, NONE)
"""The smallest cell that trains: without its one skip edge nothing reaches the classifier. (The
paper does not give the cell that it began with.)"""


def cells() -> Iterator[Cell]:
    """All 15,625, in no order of the benchmark's."""
    yield from product(range(5), repeat=6)


@cache
def architecture(cell: Cell) -> str:
    """The official string of a cell: ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
    a, b, c, d, e, f = cell
    first, second, third = _NAMES  # of operations on edges from each node
    return f"|{first[a]}|+|{first[b]}|{second[c]}|+|{first[d]}|{second[e]}|{third[f]}|"


def cell_of(text: str) -> Cell:
    """The cell that an official string names. Raises ``ValueError`` for any other text."""
    nodes = text.split("+")
    found = []
    for node, into in enumerate(nodes, start=1):
        names = into.strip("|").split("|")
        if len(nodes) != 3 or len(names) != node:
            raise ValueError(f"{text!r} is no architecture string of NAS-Bench-201")
        for origin, name in enumerate(names):
            operation, _, number = name.partition("~")
            if operation not in OPERATIONS or number != str(origin):
                raise ValueError(f"{text!r}: {name!r} is no operation on edge {origin}>{node}")
            found.append(OPERATIONS.index(operation))
    cell = tuple(found)
    if architecture(cell) != text:
        raise ValueError(f"{text!r} is no architecture string of NAS-Bench-201")
    return cell  # type: ignore[return-value]


@cache
def neighbours(cell: Cell) -> tuple[Cell, ...]:
    """The 24 cells that differ in one edge, in the order of edges and operations."""
    return tuple(
        (*cell[:edge], operation, *cell[edge + 1 :])  # type: ignore[misc]
        for edge in range(len(EDGES))
        for operation in range(len(OPERATIONS))
        if operation != cell[edge]
    )


def describe(cell: Cell, dataset: Dataset) -> Descriptors:
    """Width, depth and size of the whole network for images of ``dataset``.

    The formulas of FLOPs and parameters are the benchmark's counts (every edge executes, whether
    or not anything of it reaches the output); width and depth are counted as for any other
    network: the most output features of a layer with weights, and executed layers.
    """
    ones, threes = cell.count(CONV1), cell.count(CONV3)
    quarter = 1 if dataset.size == 32 else 4
    millions = (7.7824 + 3.93216 * ones + 35.38944 * threes) / quarter
    depth = SKELETON_DEPTH + STAGES * CELLS_PER_STAGE * sum(_LAYERS[op] for op in cell)
    width = max(CHANNELS, dataset.classes)
    return Descriptors(
        width=width,
        depth=depth,
        ratio=width / depth,
        flops=float(round(millions * 1e6) + 65 * dataset.classes),
        params=72_656 + 28_000 * ones + 243_040 * threes + 65 * dataset.classes,
    )


def bounds(dataset: Dataset) -> tuple[tuple[float, float], tuple[float, float]]:
    """The smallest and the largest (ratio, FLOPs) of any cell."""
    found = [describe((operation,) * 6, dataset) for operation in range(len(OPERATIONS))]
    ratios, flops = [d.ratio for d in found], [d.flops for d in found]
    return (min(ratios), min(flops)), (max(ratios), max(flops))
