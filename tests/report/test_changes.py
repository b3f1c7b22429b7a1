"""Changes of the archives where networks are trained again, so that an elite's value moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmatic_hpc.report.page.anytime import progress
from llmatic_hpc.report.page.changes import changes

from ..coordinator.test_repeats import made, table  # noqa: F401 (a fixture)


def test_a_mean_that_moves_is_followed(tmp_path: Path) -> None:
    """Generation by generation as the history has it, and at the end as the archives are."""
    record = made(tmp_path, "search.generations=20")
    assert record.are_repeats.any()
    told, history = changes(record)["network"], record.history
    reached, last = progress(record), np.sort(record.candidates["told"])
    living: dict[int, tuple[int, float]] = {}
    for generation in range(record.committed_generations):
        living |= {c.cell: (c.candidate, c.value) for c in told if c.generation == generation}
        score = sum(value for _, value in living.values())
        assert score == pytest.approx(history["network_qd_score"][generation])
        row = int(np.searchsorted(last, generation, side="right")) - 1
        assert reached["qd_score"][row] == pytest.approx(score)
        assert reached["best"][row] == pytest.approx(max(value for _, value in living.values()))
    archive = record.archives["network"]
    for cell, (candidate, value) in living.items():
        assert (archive.elite[cell], archive.fitness[cell]) == (candidate, pytest.approx(value))
    assert len(living) == (archive.elite >= 0).sum()
