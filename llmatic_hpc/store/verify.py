"""Verify a record: the integrity of its rows, and a replay of its whole history."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Config, from_tables
from ..search import Search
from ..types import PENDING, STATUSES, Proposal
from . import attempts, fold, places, promotion, repeats, requests, rewritings, rows, tries
from .record import PROPOSED, Record


@dataclass(frozen=True)
class Difference:
    """Something that the record says and a replay does not, or that cannot be."""

    where: str
    """``candidate 17``, ``generation 2``, ``archives/network cell 5``."""
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def verify(record: Record) -> Iterator[Difference]:
    """Differences in the order in which they arise; none if the record is sound.

    Every row is checked for itself; then the search is run again from the record's own
    configuration and seed: each proposal, each change to an archive and both archives at
    the end must come out as recorded.
    """
    config = from_tables(record.config, "run.h5")
    yield from _rows(record, config)
    if impossible := list(_told(record)):
        yield from impossible
        return  # no search can be told so
    yield from (Difference(where, what) for where, what in attempts.faults(record))
    search = fold.new_search(config, record.own_prompts, record)
    batch = config.search.batch * config.search.oversample
    for generation in range(record.committed_generations):
        yield from _asked(record, config, search)
        yield from _of_rows(promotion.differences(record, search, generation))
        told = search.tell(fold.evaluations(record, generation))
        yield from _of_rows(promotion.late_differences(record, search))
        for update in told.updates:
            again = dict(vars(update))
            row = again.pop("candidate")
            yield from _unequal(f"candidate {row}", record.candidates, row, again)
        again = vars(told.generation)
        yield from _unequal(f"generation {generation}", record.history, generation, again)
    if record.phase == PROPOSED:  # new prompts before it have changed the archive
        yield from _asked(record, config, search)
    if odd := rewritings.unasked(record):
        yield Difference("rewritings", odd)
    for name, state in fold.archive_states(search, record).items():
        for column in (
            "elite",
            "fitness",
            "curiosity",
            *(["rung"] if state.rung is not None else ()),
            *(["trainings"] if state.trainings is not None else ()),
        ):
            stored, replayed = getattr(record.archives[name], column), getattr(state, column)
            for cell in np.flatnonzero(~_equal(stored, replayed)).tolist():
                where = f"archives/{name} cell {cell}"
                yield _replays(where, column, stored[cell], replayed[cell])
    expected = (record.committed_generations + (record.phase == PROPOSED)) * batch
    if record.rows != expected:
        yield Difference("candidates", f"{record.rows} rows where {expected} belong")


def _told(record: Record) -> Iterator[Difference]:
    """Check that every evaluation was told once, when there was one, and no result is withheld."""
    table, committed = record.candidates, record.committed_generations
    for row in range(record.rows):
        generation, told = int(table["generation"][row]), int(table["told"][row])
        where, is_out = f"candidate {row}", record.status(row) == PENDING
        if told == -1:
            if generation < committed and not is_out:
                yield Difference(where, f"{record.status(row)}, and told in no generation")
        elif is_out:
            yield Difference(where, f"pending, but told in generation {told}")
        elif not generation <= told < committed:
            yield Difference(where, f"of generation {generation}, but told in {told}")
        else:
            original = int(table["duplicate_of"][row])
            if record.status(row) == places.PASSED_OVER:
                continue  # it takes over nothing
            if 0 <= original < row and not 0 <= int(table["told"][original]) <= told:
                yield Difference(where, f"told before candidate {original}, which it duplicates")


def _rows(record: Record, config: Config) -> Iterator[Difference]:
    table = record.candidates
    batch, several = config.search.batch, config.search.oversample
    repeated = record.are_repeats
    for row in range(record.rows):
        where = f"candidate {row}"
        generation = int(table["generation"][row])
        place = generation * batch + int(table["index"][row])
        if (place, int(table["attempt"][row])) != divmod(row, several):
            yield Difference(where, f"stands in row {row} but is of generation {generation}")
        source = table["source"][row]
        digest = hashlib.sha256(source.encode("utf-8")).hexdigest()
        if digest.encode() != table["source_sha256"][row]:
            yield Difference(where, "source does not match source_sha256")
        status = record.status(row)
        if status not in (*STATUSES, PENDING):
            yield Difference(where, f"status {status!r} is none of {', '.join(STATUSES)}")
        fitness = float(table["fitness"][row])
        if status == "scored" and not 0.0 <= fitness <= 1.0:
            yield Difference(where, f"scored, with a fitness of {fitness}")
        if status not in ("scored", "duplicate") and not math.isnan(fitness):
            yield Difference(where, f"{status}, with a fitness of {fitness}")
        original = int(table["duplicate_of"][row])
        if original >= 0:
            same = original < row and (
                table["canonical_sha256"][original] == table["canonical_sha256"][row]
            )
            if not same:
                yield Difference(where, f"is no duplicate of candidate {original}")
            elif status == "duplicate" and not _equal(*table["fitness"][[row, original]]):
                yield Difference(where, f"does not have the score of candidate {original}")
        if record.rungs:
            yield from (Difference(where, fault) for fault in promotion.row_faults(record, row))
        if repeated[row]:
            yield from (Difference(where, fault) for fault in repeats.row_faults(record, row))
        if any(parent >= row for parent in table["parents"][row].tolist()):
            yield Difference(where, "has a parent that came after it")


def _of_rows(found: Iterator[tuple[int, str]]) -> Iterator[Difference]:
    return (Difference(f"candidate {row}", what) for row, what in found)


def _asked(record: Record, config: Config, search: Search) -> Iterator[Difference]:
    """Check all that comes before a generation's trainings: what was proposed, tried and kept."""
    for where, what in rewritings.differences(record, search):
        yield Difference(where, what)
    proposals = fold.ask(record, search)
    yield from _proposals(record, proposals)
    yield from _of_rows(requests.differences(record, config, search, proposals))
    yield from _of_rows(tries.differences(record, config, search.generation, proposals))
    yield from _places(record, search)


def _proposals(record: Record, proposals: tuple[Proposal, ...]) -> Iterator[Difference]:
    for proposal in proposals:
        again, row = rows.proposal_columns(proposal), proposal.candidate
        again["parents"] = [*proposal.parents, *[-1] * (3 - len(proposal.parents))]
        yield from _unequal(f"candidate {row}", record.candidates, row, again)


def _places(record: Record, search: Search) -> Iterator[Difference]:
    """Check which candidates of the generation that was asked for were passed over."""
    for row, has_place in places.again(search, record):
        if has_place != (record.status(row) != places.PASSED_OVER):
            there = "is passed over" if has_place else f"is {record.status(row)}"
            other = "gives it the place" if has_place else "passes it over"
            yield Difference(f"candidate {row}", f"{there}, a replay {other}")


def _unequal(
    where: str, table: Mapping[str, NDArray[Any]], row: int, again: Mapping[str, Any]
) -> Iterator[Difference]:
    """Compare a row of a table with what a replay gives ``again``."""
    for name, value in again.items():
        there = table[name][row]
        there = there.decode() if isinstance(there, bytes) else there
        if isinstance(value, int | float | str) and np.ndim(there) == 0:  # most, and quickly
            same = there == value or (there != there and value != value)
        else:
            same = np.all(_equal(np.asarray(there), np.asarray(value)))
        if not same:
            yield _replays(where, name, there, value)


def _replays(where: str, name: str, there: Any, again: Any) -> Difference:
    return Difference(where, f"{name} is {there}, a replay gives {again}")


def _equal(a: Any, b: Any) -> Any:
    if a.shape != b.shape:
        return np.zeros(1, dtype=bool)
    if a.dtype.kind == "f":
        return (a == b) | (np.isnan(a) & np.isnan(b.astype(float)))
    return a == b
