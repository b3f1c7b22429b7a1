"""Invariant 3: the archives equal a replay of the candidate table; anything else is found."""

from __future__ import annotations

from typing import Any

import pytest

from llmatic_hpc.store import Record, verify

from .conftest import made_up


def first(record: Record) -> str:
    return str(next(iter(verify(record)), ""))


def test_invariant_3_archives_equal_a_replay() -> None:
    """A sound record has no difference, at every phase."""
    for generations in range(4):
        assert first(made_up(generations)) == ""
        assert first(made_up(generations, in_flight=True)) == ""


@pytest.mark.parametrize(
    ("column", "row", "value", "words"),
    [
        ("source", 3, "y = 1\n", "candidate 3: source does not match"),
        ("status", 3, b"unknown", "candidate 3: status 'unknown'"),
        ("fitness", 0, 7.0, "candidate 0: scored, with a fitness of 7.0"),
        ("fitness", 3, 0.5, "candidate 3: invalid, with a fitness"),
        ("fitness", 20, 0.99, "generation 1: best_fitness"),
        ("temperature", 30, 0.123, "candidate 30: temperature is 0.123"),
        ("prompt", 30, 12, "candidate 30: prompt is 12"),
        ("parents", 30, (29, -1, -1), "candidate 30: parents"),
        ("parents", 5, (6, -1, -1), "candidate 5: has a parent that came after it"),
        ("seed", 1, 5, "candidate 1: seed is 5"),
        ("network_added", 0, 0, "candidate 0: network_added is 0, a replay gives 2"),
        ("curiosity_delta", 25, 9.0, "candidate 25: curiosity_delta is 9.0"),
        ("duplicate_of", 9, 2, "candidate 9: is no duplicate of candidate 2"),
        ("generation", 13, 0, "candidate 13: stands in row 13"),
    ],
)
def test_tampering_is_found(column: str, row: int, value: Any, words: str) -> None:
    """One changed cell of the table is named."""
    record = made_up()
    record.candidates[column][row] = value
    assert words in first(record)


@pytest.mark.parametrize("column", ["elite", "fitness", "curiosity"])
@pytest.mark.parametrize("name", ["network", "prompt"])
def test_tampering_with_an_archive_is_found(name: str, column: str) -> None:
    """One changed cell of an archive is named."""
    record = made_up()
    getattr(record.archives[name], column)[5] = 3
    assert f"archives/{name} cell 5: {column} is 3" in first(record)


def test_tampering_with_the_history_is_found() -> None:
    """One changed number of the history is named."""
    record = made_up()
    record.history["trainable"][1] = 99
    assert "generation 1: trainable is 99" in first(record)
