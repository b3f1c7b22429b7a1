"""Cells as code: what is written, what is read, what is refused."""

from __future__ import annotations

from llmatic_hpc.problems.nasbench201.cells import cells
from llmatic_hpc.problems.nasbench201.reading import read
from llmatic_hpc.problems.nasbench201.writing import source


def test_every_cell_comes_back() -> None:
    """All 15,625, dead edges included."""
    for cell in cells():
        assert read(source(cell)) == cell
