"""The benchmark's cells against its own table, and the formulas against the real network."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import pytest

from llmatic_hpc.evaluation.measure import measure
from llmatic_hpc.problems.nasbench201.cells import (
    DATASETS,
    EDGES,
    INITIAL,
    NONE,
    OPERATIONS,
    Cell,
    architecture,
    bounds,
    cell_of,
    cells,
    describe,
    neighbours,
)
from llmatic_hpc.problems.nasbench201.whole import source

FEW = ((1, 1, 1, 1, 1, 1), (0, 0, 0, 1, 0, 0), (3, 1, 0, 4, 0, 2), (3, 3, 3, 3, 3, 3),
       (4, 2, 4, 1, 3, 1))  # fmt: skip


@pytest.fixture(scope="module")
def table(test_data: Path) -> dict[str, np.ndarray]:
    with h5py.File(test_data / "nasbench201.h5") as file:
        found = {"arch_str": file["arch_str"][:]}
        for name in DATASETS:
            for column in ("flops_m", "params_m"):
                found[f"{name}/{column}"] = file[name][column][:]
        return found


def test_strings_are_the_benchmarks(table: dict[str, np.ndarray]) -> None:
    """Both ways, for all 15,625, and no other."""
    official = [text.decode() for text in table["arch_str"]]
    assert {architecture(cell) for cell in cells()} == set(official)
    assert len(official) == 15_625
    assert all(architecture(cell_of(text)) == text for text in official)


@pytest.mark.parametrize("name", DATASETS)
def test_sizes_are_the_benchmarks(name: str, table: dict[str, np.ndarray]) -> None:
    found = [describe(cell_of(t.decode()), DATASETS[name]) for t in table["arch_str"]]
    flops = np.array([d.flops for d in found]) / 1e6
    params = np.array([d.params for d in found]) / 1e6
    assert np.allclose(flops, table[f"{name}/flops_m"], rtol=1e-6)
    assert np.allclose(params, table[f"{name}/params_m"], rtol=1e-6)


@pytest.mark.parametrize("name", DATASETS)
def test_descriptors_lie_within_their_bounds(name: str) -> None:
    low, high = bounds(DATASETS[name])
    found = [describe(cell, DATASETS[name]) for cell in cells()]
    assert min(d.ratio for d in found) == low[0]
    assert max(d.ratio for d in found) == high[0]
    assert min(d.flops for d in found) == low[1]
    assert max(d.flops for d in found) == high[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|none~0|",
        "|none~0|+|none~0|none~1|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~3|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|max_pool~2|",
        "none~0+none~0|none~1+none~0|none~1|none~2",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|+",
        "|none~0|+|none~1|none~0|+|none~0|none~1|none~2|",
    ],
)
def test_other_strings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"architecture|no operation"):
        cell_of(text)


def test_neighbours_differ_in_one_edge() -> None:
    found = neighbours(INITIAL)
    assert len(set(found)) == 24 == len(EDGES) * (len(OPERATIONS) - 1)
    assert all(sum(a != b for a, b in zip(c, INITIAL, strict=True)) == 1 for c in found)


@pytest.mark.parametrize("cell", FEW)
@pytest.mark.parametrize("name", DATASETS)
def test_the_whole_network_is_as_described(name: str, cell: Cell) -> None:
    """That is the one that is exported. Width and parameters exactly; depth but for ``Zero``, which
    is counted as any module of a source's own is and executes nothing in the benchmark. The
    benchmark's FLOPs leave out what we count for batch norms (two an element) and for the pooling
    at the end (one an element), and count one addition a class at the classifier, for its bias.
    """
    dataset = DATASETS[name]
    text = source(cell, dataset)
    found = measure(
        text,
        input_shape=(3, dataset.size, dataset.size),
        classes=dataset.classes,
        max_params=10**8,
        max_flops=1e12,
        max_layers=10**6,
    )
    measured, said = found.descriptors, describe(cell, dataset)
    assert measured is not None, found.failure
    assert (measured.width, measured.params) == (said.width, said.params)
    assert measured.depth == said.depth + 15 * cell.count(NONE)
    pixels = dataset.size**2
    blocks = sum(op in (2, 3) for op in cell)
    norms = 16 * pixels * (1 + 5 * blocks) + 32 * pixels // 4 * (2 + 5 * blocks)
    norms += 64 * pixels // 16 * (2 + 5 * blocks) + 64 * pixels // 16
    pooled = 64 * pixels // 16
    assert math.isclose(
        measured.flops, said.flops + 2 * norms + pooled - dataset.classes, rel_tol=1e-12
    )
