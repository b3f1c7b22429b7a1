"""A benchmark's table that nobody measured, so that runs take a second and need no data."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmatic_hpc.problems.nasbench201 import table as tables

from ..problems.nasbench201.test_table import made_up


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of all cells."""
    file = tmp_path_factory.mktemp("table") / "table.h5"
    tables.write(file, made_up(tables.CELLS), "made up")
    return file
