"""Trainings of the generation in flight, told to an observer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import LLMaticError
from ..problems.evaluator import Evaluated, Evaluator
from ..search import Search
from ..store import Record, promotion, rows
from ..store.record import EVALUATED
from ..types import Result
from . import rungs
from .in_flight import InFlight

if TYPE_CHECKING:
    from .observing import Observer


@dataclass(frozen=True)
class Trainings:
    """Evaluation of candidates of the generation in flight."""

    evaluator: Evaluator
    record: Record
    search: Search
    in_flight: InFlight
    observer: Observer
    told: Observer
    """Listener to stages and their progress; the observer, or nobody."""

    def run(self, due: Sequence[int]) -> Evaluated:
        """Evaluate the candidates ``due``, from rung to rung where there are rungs.

        Raises :class:`LLMaticError` where the machine spoiled every one of them.
        """
        if self.record.rungs:
            anew = self.evaluator.trains_anew
            return rungs.climb(self.record, self.search, due, self._evaluate, anew=anew)
        return self._evaluate(due)

    def finish(self) -> bool:
        """Train in full the elites that stand at a rung below; return whether there were any.

        Raises as :meth:`run`.
        """
        record = self.record
        if not promotion.is_deferred(record) or record.phase != EVALUATED:
            return False
        due = promotion.standing(record, self.search).due()
        if not due:
            self.in_flight.end(())  # of a run that was killed when it had committed them
            return False
        self.observer.notice(f"training {len(due)} elites in full: {record.rungs[-1]} epochs")
        if not self.evaluator.repeatable:
            self.in_flight.begin(record.run_id, record.committed_generations)
        if left := rungs.finish(record, self.search, self._evaluate):
            self.observer.notice(
                f"the machine spoiled the full training of {len(left)} elites, candidates "
                f"{', '.join(map(str, left))}; start the run again to have them trained"
            )
        return True

    def _evaluate(self, due: Sequence[int], *rung: int) -> Evaluated:
        """Evaluate candidates, up to a ``rung`` if one is given."""
        record = self.record
        # Elites are trained in full after the last generation, and belong to none.
        generation = record.committed_generations - (record.phase == EVALUATED)
        self.told.stage(generation, "trained", len(due))
        is_full = rung in ((), (len(record.rungs) - 1,))
        on_result = self._on_result if is_full else self._on_rung
        evaluated = self.evaluator.evaluate(record, due, on_result, *rung)
        why = rows.spoiled([evaluated.rows.get(row, {}) for row in due])
        # One candidate alone may be the machine's fault by its own doing, and not for ever.
        if why and self.in_flight.forget(again=len(due) > 1, rung=rung[0] if rung else 0):
            raise LLMaticError(
                f"the machine spoiled every candidate of generation {generation}, most often: "
                f"{why}. Nothing is lost: mend that and start the run again"
            )
        record.attempts.append([vars(one) for one in evaluated.attempts])
        return evaluated

    def _on_rung(self, _: Result) -> None:
        self.told.advance("trained")

    def _on_result(self, result: Result) -> None:
        self.told.advance("trained")
        is_repeat = self.record.are_repeats[result.candidate]
        if math.isfinite(result.outcome.fitness) and not is_repeat:
            self.observer.scored(result.candidate, result.outcome.fitness)
