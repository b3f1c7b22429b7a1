"""What the coordinator asks of whatever finds out how good a candidate is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..store import Record
from ..types import Examined, Outcome, Problem, Result, Screened


@dataclass(frozen=True)
class Evaluated:
    """What became of the candidates of a generation that were due."""

    rows: Mapping[int, Mapping[str, Any]]
    """By candidate: what its result says, by the columns that hold it. A late one is missing."""
    lost: Mapping[str, float] = field(default_factory=dict)
    """Seconds of tasks without a result, by cause."""


class Evaluator(Protocol):
    """Screens and scores the candidates of one problem."""

    problem: Problem
    repeatable: bool
    """Whether results cost nothing to have again, so that none is kept before a commit."""

    def facts(self) -> dict[str, Any]:
        """What the results stand on beyond the settings, for the record; the same for all of a
        run."""
        ...

    def examine(self, sources: Sequence[str], *, repair: bool) -> list[Examined]:
        """The sources with their verdicts, in order; ``repair``: repaired where rules can."""
        ...

    def evaluate(
        self, record: Record, due: Sequence[int], on_result: Callable[[Result], None]
    ) -> Evaluated:
        """Score the candidates ``due``, rows of the record that are no duplicates.

        Raises :class:`~llmatic_hpc.errors.Interrupted` when asked to stop.
        """
        ...

    def judge(self, source: str) -> tuple[Screened, Outcome]:
        """One source text, screened and scored outside of any run."""
        ...

    def interrupted(self) -> None:
        """The run is being left: what should not go on without it is ended."""
        ...

    def end(self, record: Record) -> None:
        """The budget is spent."""
        ...

    def close(self) -> None:
        """Give back what is held; may be called twice."""
        ...
