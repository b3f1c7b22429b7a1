"""Give each place of a generation to the one of its completions that the map lacks most.

With ``search.oversample = k`` a place's prompt is answered k times. All answers are screened, which
costs milliseconds; one is evaluated, which costs a training.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .archive import Archive
from .seeds import Purpose, generator


class Answer(NamedTuple):
    """Facts about one of a place's completions, once it is screened."""

    fits: bool
    """True where it could be evaluated."""
    is_duplicate: bool
    """True where it would take over another candidate's score."""
    descriptors: tuple[float, ...]
    """Raw values, one per axis of the network archive; NaN where not measured."""


def chosen(
    answers: Sequence[Answer],
    cells: Sequence[int],
    fitness: Sequence[float],
    aims: Mapping[int, int],
    draw: float,
) -> int:
    """Return the position of the answer that its place goes to.

    What fits goes before duplicates, and these before what does not fit. Of what fits, first the
    niche at which the fewest earlier places of the generation aim; of those an empty niche, else
    the one with the weakest elite. Equals are drawn among.

    Args:
        answers: at least one.
        cells: the niche of each; below 0: it is not known, and comes after all others.
        fitness: that of the elite of each niche; NaN: the niche is empty.
        aims: how many earlier places of the generation aim at a niche.
        draw: uniform in [0, 1).
    """

    def rank(answer: Answer, cell: int) -> tuple[float, ...]:
        if not answer.fits:
            return (3,)
        if answer.is_duplicate:
            return (2,)
        if cell < 0:
            return (1,)
        weakest = -math.inf if math.isnan(fitness[cell]) else fitness[cell]
        return (0, aims.get(cell, 0), weakest)

    ranks = [rank(answer, cell) for answer, cell in zip(answers, cells, strict=True)]
    best = [position for position, found in enumerate(ranks) if found == min(ranks)]
    return best[int(draw * len(best))]


class Places:
    """The places of one generation, given away one after the other."""

    def __init__(self, archive: Archive, *, seed: int, generation: int) -> None:
        self._archive, self._seed, self._generation = archive, seed, generation
        self._aims: Counter[int] = Counter()

    def give(self, place: int, answers: Sequence[Answer]) -> int:
        """Return the position of the answer that a place goes to.

        ``place`` is numbered through all generations: ``generation * search.batch + index``.
        """
        located = self._archive.tessellation.locate([one.descriptors for one in answers])
        cells = [location.cell for location in located]
        rng = generator(self._seed, self._generation, Purpose.PLACE, place)
        won = chosen(answers, cells, self._archive.fitness.tolist(), self._aims, rng.random())
        if answers[won].fits and not answers[won].is_duplicate and cells[won] >= 0:
            self._aims[cells[won]] += 1
        return won
