"""Candidates that train on from a rung: by their niche's elite, and of several the best."""

from __future__ import annotations

import pytest

from llmatic_hpc.search.promotion import Newcomer, stopped

NEWCOMERS = [
    Newcomer(10, 0, 0.5), Newcomer(11, 1, 0.5), Newcomer(12, 1, 0.7), Newcomer(13, 1, 0.7),
    Newcomer(14, 2, 0.1), Newcomer(15, -1, 0.9), Newcomer(16, 2, 0.2),
]  # fmt: skip
ELITES = {0: 0.5, 1: 0.6}
"""Scores of the elites of two niches; niche 2 is empty."""


@pytest.mark.parametrize(
    ("margin", "best_only", "expected"),
    [
        (0.0, False, {11, 15}),  # as good as the elite is enough, an empty niche admits all
        (0.1, False, {15}),
        (-0.1, False, {10, 11, 15}),  # must be better by 0.1
        (0.0, True, {11, 13, 14, 15}),  # of equals the first
        (0.1, True, {11, 13, 14, 15}),
    ],
)
def test_who_goes_no_further(margin: float, best_only: bool, expected: set[int]) -> None:
    """By hand, for every rule."""
    found = stopped(NEWCOMERS, ELITES, margin=margin, best_only=best_only)
    assert found.keys() == expected


def test_the_reason_is_said() -> None:
    """With the numbers that decided."""
    found = stopped(NEWCOMERS, ELITES, margin=0.0, best_only=True)
    assert found[11] == "0.5000, and its niche asks for 0.6000"
    assert found[13] == "0.7000, candidate 12 is better"
    assert found[15] == "it has no niche"
