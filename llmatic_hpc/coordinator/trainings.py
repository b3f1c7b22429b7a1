"""Trainings of the generation in flight, told to an observer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import LLMaticError
from ..problems.evaluator import Evaluated, Evaluator
from ..store import Record, rows
from ..types import Result
from .in_flight import InFlight

if TYPE_CHECKING:
    from .loop import Observer


@dataclass(frozen=True)
class Trainings:
    """Evaluation of candidates of the generation in flight."""

    evaluator: Evaluator
    record: Record
    in_flight: InFlight
    observer: Observer
    told: Observer
    """Listener to stages and their progress; the observer, or nobody."""

    def run(self, due: Sequence[int]) -> Evaluated:
        """Evaluate the candidates ``due``.

        Raises :class:`LLMaticError` where the machine spoiled every one of them.
        """
        record = self.record
        self.told.stage(record.committed_generations, "trained", len(due))
        evaluated = self.evaluator.evaluate(record, due, self._on_result)
        why = rows.spoiled([evaluated.rows.get(row, {}) for row in due])
        # One candidate alone may be the machine's fault by its own doing, and not for ever.
        if why and self.in_flight.forget(again=len(due) > 1):
            raise LLMaticError(
                f"the machine spoiled every candidate of generation {record.committed_generations}"
                f", most often: {why}. Nothing is lost: mend that and start the run again"
            )
        return evaluated

    def _on_result(self, result: Result) -> None:
        self.told.advance("trained")
        if math.isfinite(result.outcome.fitness):
            self.observer.scored(result.candidate, result.outcome.fitness)
