"""Baselines that LLMatic is compared with, as ask and tell: regularized evolution and local search.

Both know a space only by its size around a point: every network has ``neighbours`` others that
are one edit away, known by their number. Both archive what they find for the record only.
(The third baseline, random search, is the variant ``random`` with the procedural control.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from ..config import SearchSettings
from ..types import Evaluation


class RegularizedEvolution:
    """Aging evolution (Real, Aggarwal, Huang and Le, AAAI 2019).

    It begins with ``population`` random networks. A child is a uniformly random neighbour of the
    fittest of ``tournament`` individuals, drawn with replacement; it enters as the youngest, and
    the oldest leaves.
    """

    def __init__(self, *, population: int, tournament: int, neighbours: int) -> None:
        self._size, self._tournament, self._neighbours = population, tournament, neighbours
        self._population: deque[tuple[float, int]] = deque()

    def ask(self, rngs: Iterable[np.random.Generator]) -> list[tuple[int, int]]:
        """Parent and number of its neighbour for every candidate; parent -1: a random network."""
        if len(self._population) < self._size:
            return [(-1, -1) for _ in rngs]
        return [(self._winner(rng), int(rng.integers(self._neighbours))) for rng in rngs]

    def _winner(self, rng: np.random.Generator) -> int:
        drawn = rng.integers(len(self._population), size=self._tournament).tolist()
        return max((self._population[i] for i in drawn), key=lambda one: one[0])[1]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Take in what became of them, in candidate order; untrainable ones count as the worst."""
        for evaluation in evaluations:
            if evaluation.status == "infrastructure":
                continue
            self._population.append((_fitness(evaluation), evaluation.candidate))
            while len(self._population) > self._size:
                self._population.popleft()


class LocalSearch:
    """Hill climbing with restarts (White, Nolen and Savani, UAI 2021).

    It begins at a random network, or at the best of a batch of them. All neighbours are
    evaluated in random order, a batch at a time; then it moves to the best of them if that is
    fitter, else it begins anew. ``first_improvement``: it moves as soon as one is fitter.
    """

    def __init__(self, *, neighbours: int, first_improvement: bool) -> None:
        self._neighbours, self._first = neighbours, first_improvement
        self._current: tuple[float, int] | None = None
        self._best: tuple[float, int] | None = None
        self._due: list[int] = []

    def ask(self, rngs: Iterable[np.random.Generator]) -> list[tuple[int, int]]:
        """See :meth:`RegularizedEvolution.ask`. What a batch has more than neighbours are left is
        repeated: duplicates cost no query."""
        streams = list(rngs)
        if self._current is None:
            return [(-1, -1) for _ in streams]
        if not self._due:
            self._due = streams[0].permutation(self._neighbours).tolist()
        asked, self._due = self._due[: len(streams)], self._due[len(streams) :]
        asked += asked[-1:] * (len(streams) - len(asked))
        return [(self._current[1], number) for number in asked]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """See :meth:`RegularizedEvolution.tell`."""
        for evaluation in evaluations:
            found = _fitness(evaluation), evaluation.candidate
            if self._best is None or found[0] > self._best[0]:
                self._best = found
        if self._current is None:
            self._current = self._best
            return
        assert self._best is not None
        improved = self._best[0] > self._current[0]
        if improved and (self._first or not self._due):
            self._current, self._due = self._best, []
        elif not self._due:
            self._current = self._best = None


def _fitness(evaluation: Evaluation) -> float:
    return evaluation.fitness if evaluation.status == "scored" else -np.inf


def baseline(
    settings: SearchSettings, neighbours: int
) -> RegularizedEvolution | LocalSearch | None:
    """The baseline that ``search.variant`` names, if it names one."""
    if settings.variant == "regularized-evolution":
        return RegularizedEvolution(
            population=settings.population, tournament=settings.tournament, neighbours=neighbours
        )
    if settings.variant == "local-search":
        return LocalSearch(neighbours=neighbours, first_improvement=settings.first_improvement)
    return None
