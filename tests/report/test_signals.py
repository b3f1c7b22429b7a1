"""Rank correlations of signals with the fitness: over all candidates, and within niches."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from llmatic_hpc.report.signals import FEWEST, signals
from llmatic_hpc.store import Record

from ..store.conftest import made_up


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's: Pearson's of the ranks."""
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


@pytest.fixture
def record() -> Record:
    made = made_up()
    table = made.candidates
    table["network_cell"][:] = np.arange(made.rows) % 2
    table["naswot"][:] = np.where(table["network_cell"] == 0, 1, -1) * table["fitness"]
    return made


def test_correlations_are_those_of_the_ranks(record: Record) -> None:
    """Scored candidates alone count; a signal may mislead over all and lead within niches."""
    table, found = record.candidates, {one["signal"]: one for one in signals(record)}
    scored = table["status"] == b"scored"
    assert found["flops"]["count"] == scored.sum()
    expected = correlation(table["flops"][scored], table["fitness"][scored])
    assert found["flops"]["rho"] == pytest.approx(expected)
    assert found["naswot"]["niches"] == 2
    assert found["naswot"]["rho_in_niche"] == pytest.approx(0.0)
    table["naswot"][table["network_cell"] == 1] *= -1
    again = {one["signal"]: one for one in signals(record)}["naswot"]
    assert (again["rho"], again["rho_in_niche"]) == (pytest.approx(1), pytest.approx(1))


def test_too_few_say_nothing(record: Record) -> None:
    """Signals that nobody measured, and niches with too few candidates."""
    found = {one["signal"]: one for one in signals(record)}
    assert found["synflow"] == {
        "signal": "synflow", "count": 0, "rho": None, "niches": 0, "rho_in_niche": None,
    }  # fmt: skip
    assert found["params"]["count"] == 0, "not measured: -1"
    table = record.candidates
    table["network_cell"][:] = np.arange(record.rows) // (FEWEST - 1)
    assert {one["signal"]: one["niches"] for one in signals(record)}["naswot"] == 0
