"""Finding out how good a candidate is: what the coordinator asks of an evaluator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..store import Record, rows
from ..types import PENDING, Attempt, Examined, Outcome, Problem, Result, Screened


@dataclass(frozen=True)
class Evaluated:
    """Results of the candidates of a generation that were due."""

    rows: Mapping[int, Mapping[str, Any]]
    """By candidate: what its result says, by the columns that hold it. A late one is missing."""
    lost: Mapping[str, float] = field(default_factory=dict)
    """Seconds of tasks without a result, by cause."""
    attempts: Sequence[Attempt] = ()
    """Attempts at the candidates that have a result, where tasks are submitted."""


class Evaluator(ABC):
    """Screens and scores the candidates of one problem."""

    problem: Problem
    own_validation: bool = False
    """True, from :meth:`start` on, where fitness is on a validation split of the data's own."""
    repeatable: bool
    """True where results cost nothing to have again, so that none is kept before a commit."""
    trains_anew: bool = False
    """True where the training to a rung does not go on from the one to the rung below."""

    waits: Callable[[str], None] = staticmethod(lambda what: None)
    """Told what is waited for, as :meth:`.Observer.waits` is, and by it where there is one."""

    def prepare(self) -> None:  # noqa: B027
        """Raise :class:`~llmatic_hpc.errors.LLMaticError` where nothing can be scored here."""

    def facts(self) -> dict[str, Any]:
        """Return what the results of all of a run stand on beyond the settings, for the record."""
        return {}

    def start(self) -> str:
        """Refuse what no candidate of a run could be scored with; called before the first is made.

        Returns the SHA-256 of the data for the record; empty where there are none, or where
        :meth:`facts` tells them apart. Raises :class:`~llmatic_hpc.errors.LLMaticError`.
        """
        return ""

    @abstractmethod
    def examine(self, sources: Sequence[str], *, repair: bool) -> list[Examined]:
        """Return sources and verdicts, in order; with ``repair`` repaired where rules can."""

    @abstractmethod
    def evaluate(
        self,
        record: Record,
        due: Sequence[int],
        on_result: Callable[[Result], None],
        rung: int | None = None,
    ) -> Evaluated:
        """Score the candidates ``due``, rows of the record that are no duplicates.

        ``rung``: one of :meth:`.ProblemKind.rungs` to train up to; None: there are none.

        Raises :class:`~llmatic_hpc.errors.Interrupted` when asked to stop.
        """

    @abstractmethod
    def judge(self, source: str, *, seed: int | None = None) -> tuple[Screened, Outcome]:
        """Screen and score one source text outside of any run.

        ``seed`` of its training, where it is trained; None: the run's.
        """

    def interrupted(self) -> None:  # noqa: B027
        """End what should not go on without the run, which is being left."""

    def end(self, record: Record) -> None:  # noqa: B027
        """End what is still out when the budget is spent."""

    def close(self) -> None:  # noqa: B027
        """Give back what is held; may be called twice."""


class Immediate(Evaluator):
    """An evaluator whose scores cost next to nothing: a function, or a look-up in a table.

    No task is submitted and no result kept before a commit; a run that was killed scores again
    what was not committed. Never execute a source here: it may be a language model's.
    """

    repeatable = True

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @abstractmethod
    def screen(self, source: str) -> Screened:
        """Return the verdict on a source text, ``pending`` where it can be scored, with a digest
        by which duplicates are told and the measured values that are descriptors."""

    @abstractmethod
    def score(self, source: str, architecture: str) -> Outcome:
        """Score a source text that :meth:`screen` let through, and named if it has names."""

    def score_at(self, source: str, architecture: str, rung: int) -> Outcome:
        """:meth:`score` at a rung, for a problem that has some."""
        raise NotImplementedError(f"{type(self).__name__} has rungs and scores at none of them")

    def score_with(self, source: str, architecture: str, rung: int | None, seed: int) -> Outcome:
        """:meth:`score`, or at a ``rung``, for a problem whose scores follow a training seed."""
        if rung is None:
            return self.score(source, architecture)
        return self.score_at(source, architecture, rung)

    def columns(self, architecture: str) -> Mapping[str, Any]:
        """Return further columns of a scored candidate; none."""
        return {}

    def examine(self, sources: Sequence[str], *, repair: bool) -> list[Examined]:
        """See :meth:`Evaluator.examine`; nothing is repaired."""
        return [
            Examined(source, verdict, verdict)
            for source, verdict in zip(sources, map(self.screen, sources), strict=True)
        ]

    def evaluate(
        self,
        record: Record,
        due: Sequence[int],
        on_result: Callable[[Result], None],
        rung: int | None = None,
    ) -> Evaluated:
        """See :meth:`Evaluator.evaluate`."""
        found = {}
        sources, names = record.candidates["source"], record.candidates["architecture"]
        for candidate in due:
            name = names[candidate]
            seed = int(record.candidates["seed"][candidate])
            outcome = self.score_with(sources[candidate], name, rung, seed)
            result = Result(record.run_id, candidate, 1, "", outcome, node=self.problem.name)
            found[candidate] = {
                **rows.result(result),
                **self.columns(name),
                "attempts": 1,
                "queue_seconds": 0.0,
            }
            on_result(result)
        return Evaluated(found)

    def judge(self, source: str, *, seed: int | None = None) -> tuple[Screened, Outcome]:
        """See :meth:`Evaluator.judge`."""
        screened = self.screen(source)
        if screened.status != PENDING:
            return screened, Outcome(screened.status, screened.failure)
        if seed is None:
            return screened, self.score(source, screened.architecture)
        return screened, self.score_with(source, screened.architecture, None, seed)
