"""Completions that are sampled again before any training: who is asked once more, and why.

A completion that repeats a known network is sampled again (``generator.resample``); one that does
not fit is shown its error once (``generator.retry``). What was not kept stands in the column
``earlier`` of its candidate. Pure: the same completions give the same decisions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import types
from ..config import Config
from ..search import Purpose, draw_seed
from ..types import INITIAL, Proposal
from .record import Record

RESAMPLE, RETRY = "resample", "retry"
"""Kinds of a further try; both are counted in columns of the candidate."""

AS_THEY_ARE = ("seed", "neighbour")
"""Operators that would give the same once more."""


class Seen(NamedTuple):
    """Facts about a completion, once it is screened, that decide whether another is asked for."""

    key: str
    """Digest of its canonical form; empty where it has none."""
    fits: bool


class Again(NamedTuple):
    """A further try that is due."""

    kind: str
    original: int | None = None
    """Candidate that was repeated; ``INITIAL``: the initial network; None: nothing was."""

    def reason(self, parents: Sequence[int]) -> str:
        """Say in words why the completion before it was not kept."""
        if self.original is None:
            return "does not fit"
        if self.original in parents or (self.original == INITIAL and not parents):
            return "repeats its parent"
        of_initial = self.original == INITIAL
        return f"repeats {'the initial network' if of_initial else f'candidate {self.original}'}"


class Rounds:
    """Decisions about the completions of one generation, a round of sampling after the other.

    Whatever is kept in a round is known in the next; within a round the lower candidate is first.

    Args:
        resample: tries again of what repeats, at most.
        retry: True where what does not fit is tried once more.
        known: finds who had a digest before the generation; None: nobody.
    """

    def __init__(self, resample: int, retry: bool, known: Callable[[str], int | None]) -> None:
        self._resample, self._retry, self._known = resample, retry, known
        self._kept: dict[str, int] = {}
        self._kinds: dict[int, list[str]] = {}

    def due(self, answers: Mapping[int, Seen], final: bool = False) -> dict[int, Again]:
        """Return the candidates that are sampled again; the others of ``answers`` are kept.

        ``answers``: those of a round by candidate, in order. ``final``: all are kept.
        """
        found: dict[int, Again] = {}
        for candidate, seen in answers.items():
            kinds = self._kinds.setdefault(candidate, [])
            original = self._original(seen.key)
            if final:
                again = None
            elif original is not None and kinds.count(RESAMPLE) < self._resample:
                again = Again(RESAMPLE, original)
            elif not seen.fits and self._retry and RETRY not in kinds:
                again = Again(RETRY)
            else:
                again = None
            if again:
                kinds.append(again.kind)
                found[candidate] = again
            elif seen.key:
                self._kept.setdefault(seen.key, candidate)
        return found

    def _original(self, key: str) -> int | None:
        if not key:
            return None
        before = self._known(key)
        return self._kept.get(key) if before is None else before


def rounds(record: Record, config: Config, generation: int) -> Rounds:
    """Make the decisions of a generation; networks before it are known unless passed over."""
    several = config.search.oversample
    first = generation * config.search.batch * several
    initial = record.task.get("initial_sha256", "")

    def known(key: str) -> int | None:
        if key == initial:
            return INITIAL
        earlier = (row for row in record.rows_with(key) if row < first)
        return next((row for row in earlier if record.status(row) != "passed_over"), None)

    return Rounds(config.generator.resample, config.generator.retry, known)


def seed_and_temperature(
    config: Config, proposal: Proposal, kinds: Sequence[str]
) -> dict[str, Any]:
    """Return seed and temperature of the try after those of ``kinds``, as a request has them."""
    if not kinds:
        return {"seed": proposal.sampling_seed, "temperature": proposal.temperature}
    place = proposal.candidate // config.search.oversample
    seed = draw_seed(
        config.run.seed, proposal.generation, Purpose.SAMPLING, place, proposal.attempt, len(kinds)
    )
    warmer = config.generator.resample_temperature * kinds.count(RESAMPLE)
    return {"seed": seed, "temperature": proposal.temperature + warmer}


def columns(earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the columns of a candidate that was sampled again."""
    if not earlier:
        return {}
    kinds = [one["kind"] for one in earlier]
    return {
        "earlier": json.dumps(list(earlier)),
        "resampled": kinds.count(RESAMPLE),
        "retries": kinds.count(RETRY),
    }


def earlier(record: Record, row: int) -> list[dict[str, Any]]:
    """Read what was sampled for a candidate and not kept, in order.

    Raises ``ValueError`` where the column holds something else.
    """
    text = record.candidates["earlier"][row]
    found = json.loads(text) if text else []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("it is no list of completions")
    return found


def differences(
    record: Record, config: Config, generation: int, proposals: Sequence[Proposal]
) -> Iterator[tuple[int, str]]:
    """Yield candidates of a generation with what a replay of its decisions gives otherwise."""
    proposals = [one for one in proposals if one.operator != types.REPEAT]  # not sampled
    rows = [proposal.candidate for proposal in proposals]
    if not (config.generator.resample or config.generator.retry):
        yield from ((r, "was sampled again") for r in rows if record.candidates["earlier"][r])
        return
    decided = rounds(record, config, generation)
    left: dict[int, list[dict[str, Any]]] = {}
    of = {proposal.candidate: proposal for proposal in proposals}
    try:
        for row in of:
            left[row] = earlier(record, row)
            kinds = [one["kind"] for one in left[row]]
            counts = {RESAMPLE: "resampled", RETRY: "retries"}
            for kind, name in counts.items():
                if kinds.count(kind) != record.candidates[name][row]:
                    yield row, f"{name} is not what earlier says"
            for number, one in enumerate(left[row]):
                asked = seed_and_temperature(config, of[row], kinds[:number])
                if asked != {name: one[name] for name in asked}:
                    yield row, f"try {number} was sampled with other seed or temperature"
        waiting = list(of)
        number = 0
        while waiting:
            answers = {row: _seen(record, row, left[row], number) for row in waiting}
            exempt = [row for row in waiting if of[row].operator in AS_THEY_ARE]
            decided.due({row: s for row, s in answers.items() if row in exempt}, final=True)
            due = decided.due({row: s for row, s in answers.items() if row not in exempt})
            for row in waiting:
                there = left[row][number] if number < len(left[row]) else None
                if (again := due.get(row)) is None:
                    if there is not None:
                        yield row, f"try {number} was not kept, a replay keeps it"
                elif there is None:
                    yield row, f"was kept, a replay samples again: {again.reason(of[row].parents)}"
                elif (again.kind, again.reason(of[row].parents)) != (there["kind"], there["why"]):
                    yield (
                        row,
                        f"try {number} {there['why']}, in a replay {again.reason(of[row].parents)}",
                    )
            waiting = [row for row in due if number < len(left[row])]
            number += 1
    except (ValueError, KeyError, TypeError) as error:
        yield next(iter(of)), f"earlier cannot be read: {error!r}"


def _seen(record: Record, row: int, tries: Sequence[Mapping[str, Any]], number: int) -> Seen:
    if number < len(tries):
        return Seen(tries[number]["canonical_sha256"], tries[number]["fits"])
    table = record.candidates
    if not table["source"][row]:
        return Seen("", False)
    fits = any(map(math.isfinite, np.asarray(table["descriptors"][row]).tolist()))
    return Seen(bytes(table["canonical_sha256"][row]).decode(), fits)
