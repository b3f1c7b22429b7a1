"""Decisions who is sampled again before any training, round by round."""

from __future__ import annotations

from llmatic_hpc.store.tries import RESAMPLE, RETRY, Again, Rounds, Seen
from llmatic_hpc.types import INITIAL

KNOWN = {"initial": INITIAL, "old": 7}


def rounds(repeats: int = 2, retry: bool = False) -> Rounds:
    return Rounds(repeats, retry, KNOWN.get)


def test_what_is_new_is_kept() -> None:
    """And so is what has no canonical form."""
    assert rounds().due({20: Seen("a", True), 21: Seen("b", False), 22: Seen("", False)}) == {}


def test_repeats_are_sampled_again_at_most_so_often() -> None:
    """Repeats of the initial network, an earlier candidate, and a lower one of the same round."""
    found = rounds()
    first = {20: Seen("a", True), 21: Seen("old", True), 22: Seen("a", True),
             23: Seen("initial", True)}  # fmt: skip
    due = {21: Again(RESAMPLE, 7), 22: Again(RESAMPLE, 20), 23: Again(RESAMPLE, INITIAL)}
    assert found.due(first) == due
    assert found.due({21: Seen("b", True), 22: Seen("b", True), 23: Seen("old", True)}) == {
        22: Again(RESAMPLE, 21), 23: Again(RESAMPLE, 7)
    }  # fmt: skip
    assert found.due({22: Seen("a", True), 23: Seen("c", True)}) == {}, "twice is enough"
    assert rounds(0).due(first) == {}


def test_whom_a_round_kept_is_not_sampled_again_for_a_later_one() -> None:
    """A lower candidate that repeats a higher one which is kept is the one that repeats."""
    found = rounds()
    assert list(found.due({20: Seen("old", True), 21: Seen("a", True)})) == [20]
    assert found.due({20: Seen("a", True)}) == {20: Again(RESAMPLE, 21)}


def test_failures_are_shown_once() -> None:
    """A second misfit is kept; a corrected one that repeats is sampled again."""
    found = rounds(retry=True)
    assert found.due({20: Seen("x", False), 21: Seen("", False), 22: Seen("y", False)}) == {
        20: Again(RETRY), 21: Again(RETRY), 22: Again(RETRY)
    }  # fmt: skip
    assert found.due({20: Seen("z", False), 21: Seen("old", True), 22: Seen("", False)}) == {
        21: Again(RESAMPLE, 7)
    }


def test_reasons() -> None:
    """In words, for the record."""
    assert Again(RESAMPLE, INITIAL).reason(()) == "repeats its parent"
    assert Again(RESAMPLE, 7).reason((7,)) == "repeats its parent"
    assert Again(RESAMPLE, 7).reason(()) == "repeats candidate 7"
    assert Again(RESAMPLE, INITIAL).reason((7,)) == "repeats the initial network"
    assert Again(RETRY).reason(()) == "does not fit"
