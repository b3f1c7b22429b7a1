"""Invariant 3: the archives equal a replay of the candidate table; anything else is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llmatic_hpc.store import Record, verify

from .conftest import made_up, small_config


def first(record: Record) -> str:
    return str(next(iter(verify(record)), ""))


def test_invariant_3_archives_equal_a_replay() -> None:
    """A sound record has no difference, at every phase."""
    for generations in range(4):
        assert first(made_up(generations)) == ""
        assert first(made_up(generations, in_flight=True)) == ""
        assert first(made_up(generations, late=True)) == ""
        assert first(made_up(generations, in_flight=True, late=True)) == ""


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


@pytest.mark.parametrize(
    ("row", "changes", "words"),
    [
        (10, {"told": 0}, "candidate 10: prompt_cell is"),
        (10, {"told": 2}, "generation 1: "),
        (10, {"told": 3}, "candidate 10: of generation 0, but told in 3"),
        (10, {"told": -1}, "candidate 10: scored, and told in no generation"),
        (12, {"told": 0}, "candidate 12: of generation 1, but told in 0"),
        (35, {"told": 2}, "candidate 35: pending, but told in generation 2"),
        (35, {"status": b"scored", "fitness": 0.5}, "candidate 35: scored, and told in no"),
        (5, {"status": b"pending", "fitness": np.nan, "told": -1}, "candidate 7: prompt_added"),
    ],
)
def test_tampering_with_late_evaluations_is_found(
    row: int, changes: dict[str, Any], words: str
) -> None:
    """The generation in which an evaluation entered the search is part of the history."""
    record = made_up(late=True)
    assert [int(t) for t in record.candidates["told"][[9, 10, 11, 34, 35]]] == [0, 1, 1, -1, -1]
    for column, value in changes.items():
        record.candidates[column][row] = value
    assert words in first(record)
    assert len(list(verify(record))) > 0  # to the end, whatever was changed


def test_a_duplicate_is_not_told_before_its_original() -> None:
    """It takes over a verdict, so there must be one."""
    record = made_up(late=True)
    for column in ("source", "source_sha256", "canonical_sha256"):
        record.candidates[column][12] = record.candidates[column][11]
    for column, value in (("duplicate_of", 11), ("status", b"duplicate"), ("fitness", np.nan)):
        record.candidates[column][12] = value
    record.candidates["fitness"][11] = np.nan
    record.candidates["status"][11] = b"invalid"
    record.candidates["told"][11] = 2
    found = [str(difference) for difference in verify(record)]
    assert "candidate 12: told before candidate 11, which it duplicates" in found


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


def test_a_record_of_parents_by_curiosity_still_equals_a_replay() -> None:
    """A retired rule draws the parents that the version which offered it drew (0.1.0)."""
    base = small_config()
    search = replace(
        base.search, parents="curious", curious_individuals=3, mutation_probability=1.0
    )
    archive = replace(
        base.archive,
        network=replace(base.archive.network, kind="grid"),
        prompt=replace(base.archive.prompt, kind="grid"),
    )
    record = made_up(6, settings=replace(base, search=search, archive=archive))
    assert list(verify(record)) == []
    assert record.candidates["parents"][48:60, 0].tolist() == [
        11, 7, 2, 11, 7, 2, 12, 1, 15, 1, 45, 1,
    ]  # fmt: skip
