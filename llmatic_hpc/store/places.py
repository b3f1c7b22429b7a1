"""The places of a generation in the record: which candidate has one, and which were passed over."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from ..search import Search
from ..search.oversampling import Answer
from ..types import PENDING, Completion, Examined, Proposal
from . import repeats, rows
from .record import Record

PASSED_OVER = "passed_over"


def give(
    search: Search,
    record: Record,
    originals: rows.Originals,
    proposals: Sequence[Proposal],
    completions: Sequence[Completion],
    missing: Sequence[str],
    examined: Sequence[Examined],
) -> list[dict[str, Any]]:
    """Make a generation's rows, of which all but one for each place are passed over.

    For the arguments see :func:`.rows.candidate`; there is a completion, and what became of it,
    for every proposal that is no repeat. ``originals`` learns of whoever has a place and is the
    first of its kind.
    """
    places, several = search.places(), search.settings.oversample
    facts = zip(proposals, completions, missing, examined, strict=False)
    new = (rows.candidate(*one, originals, record.axes) for one in facts)
    found: list[dict[str, Any]] = []
    for place in _numbers(search):
        answers = list(islice(new, several))  # made no earlier, so that it knows who has a place
        # Whoever is alone has it.
        won = places.give(place, [_answer(row) for row in answers]) if several > 1 else 0
        for position, row in enumerate(answers):
            if position != won:
                why = f"its place went to candidate {place * several + won}"
                fault = f"; {row['status']}: {row['failure']}" if row["status"] != PENDING else ""
                row |= {"status": PASSED_OVER, "failure": why + fault}
            elif row["status"] == PENDING and row["duplicate_of"] < 0:
                originals.add(row["canonical_sha256"], place * several + won)
        found += answers
    further = proposals[len(found) :]
    return found + [repeats.row(one, record, passed_over=PASSED_OVER) for one in further]


def again(search: Search, record: Record) -> Iterator[tuple[int, bool]]:
    """Replay who has the places of the generation that ``search`` was asked for.

    Yields each candidate with whether it has one.
    """
    places, several = search.places(), search.settings.oversample
    if several == 1:
        yield from ((place, True) for place in _numbers(search))
        return
    for place in _numbers(search):
        first = place * several
        won = places.give(place, [_recorded(record, first + n) for n in range(several)])
        yield from ((first + position, position == won) for position in range(several))
    after = (search.generation * search.settings.batch + search.new_places) * several
    of_repeats = (search.settings.batch - search.new_places) * several
    yield from ((after + n, n % several == 0) for n in range(of_repeats))


def _numbers(search: Search) -> range:
    """Return a generation's places with new candidates, numbered through all generations."""
    first = search.generation * search.settings.batch
    return range(first, first + search.new_places)


def _recorded(record: Record, row: int) -> Answer:
    names = ("descriptors", "duplicate_of")
    return _answer({name: record.candidates[name][row].tolist() for name in names})


def _answer(row: Mapping[str, Any]) -> Answer:
    """Return what counts of a row; only of what fits is anything measured."""
    descriptors = tuple(row["descriptors"])
    fits = any(map(math.isfinite, descriptors))
    return Answer(fits, row["duplicate_of"] >= 0, descriptors)
