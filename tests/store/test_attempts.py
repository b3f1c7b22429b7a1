"""Losses of epochs and attempts on the record: kept, verified, and lacking in older ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from llmatic_hpc import store
from llmatic_hpc.rundir.paths import RunPaths
from llmatic_hpc.store import Record, attempts

from ..benchmarks.report import EPOCHS, made


@pytest.fixture
def record() -> Record:
    """A hundred candidates; candidate 7 was tried twice."""
    return made(100)


def test_they_are_read_back(record: Record, tmp_path: Path) -> None:
    """Text and numbers; an older record, which has neither, is as sound."""
    store.commit(RunPaths(tmp_path), record)
    again = store.load(RunPaths(tmp_path).record)
    np.testing.assert_array_equal(again.attempts["end"], record.attempts["end"])
    assert again.attempts["ending"].tolist()[7:9] == [b"node failure", b"result"]
    assert len(attempts.losses(again.candidates["train_curve"][0])) == EPOCHS
    assert list(store.verify(again)) == []
    with h5py.File(RunPaths(tmp_path).record, "r+") as file:
        del file["attempts"], file["candidates/train_curve"]
    old = store.load(RunPaths(tmp_path).record)
    assert (old.attempts.rows, set(old.candidates["train_curve"])) == (0, {""})
    assert list(store.verify(old)) == []


def _curve(text: str) -> Callable[[Record], None]:
    return lambda record: record.update(0, {"train_curve": text})


def _attempt(row: int, **values: object) -> Callable[[Record], None]:
    return lambda record: record.attempts.update_row(row, values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_curve("[1.0, -1.0]"), "no list of losses"),
        (_curve("nothing"), "no list of losses"),
        (_curve(json.dumps([1.0] * (EPOCHS + 1))), f"has {EPOCHS + 1} epochs"),
        (_curve(json.dumps([1.0] * EPOCHS)), "ends at 1.0, train_loss is"),
        (_attempt(0, candidate=100), "of candidate 100, which there is not"),
        (_attempt(0, end=1.0), "before it began"),
        (_attempt(0, node="elsewhere"), "node is 'elsewhere', of the candidate 'gpu0'"),
        (_attempt(0, candidate=1), "candidate 1: 2 attempts in the table, 1 counted"),
    ],
)
def test_what_cannot_be_is_found(
    record: Record, change: Callable[[Record], None], words: str
) -> None:
    """With the row, and what is there."""
    change(record)
    found = [str(difference) for difference in store.verify(record)]
    assert any(words in one for one in found), found


def test_an_epoch_whose_loss_is_not_known(record: Record) -> None:
    """A training that an earlier version began has none for its first epochs."""
    known = attempts.losses(record.candidates["train_curve"][0])
    _curve(json.dumps([None, *known[1:]]))(record)
    assert list(store.verify(record)) == []
