"""Wanted niches: the cell of the network archive that a request names, and how often it is hit.

A target is drawn among the cells nearest to the parent's: the empty ones, or where there are none
the weaker half. Since the draw is uniform, an answer that pays no heed to it hits it by chance once
in as many times as there were cells to draw from, if it comes to lie in one of these at all. A
model whose answers hit no more than that cannot aim, and targets switch themselves off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..types import Evaluation
from .archive import EMPTY, Archive

NEAR = 4
"""Cells to draw from, for each axis of the map: the eight around a cell of two."""

TRIED = 60
"""Answers that fit before it is said that a model cannot aim."""


@dataclass(frozen=True)
class Aim:
    """A target that was named, and what came of it."""

    candidate: int
    cell: int
    choice: tuple[int, ...]
    """Cells that it was drawn from."""
    start: float
    """Distance from the parent to the middle of the cell, in sides of a cell."""
    found: int = EMPTY
    """Cell of the answer; -1: nothing was measured of it."""
    miss: float = math.nan
    """Distance from the answer to the middle of the cell, in sides of a cell."""

    @property
    def fits(self) -> bool:
        """True where the answer could be measured."""
        return self.found != EMPTY

    @property
    def hit(self) -> bool:
        """True where the answer lies in the cell that was wanted."""
        return self.found == self.cell

    @property
    def chance(self) -> float:
        """Return how probable it was to hit with this answer, had the target not been named."""
        return 1 / len(self.choice) if self.found in self.choice else 0.0


@dataclass
class Aiming:
    """Targets of a run so far: a fold over its evaluations."""

    done: list[Aim] = field(default_factory=list)
    """Those whose answers the search was told, in that order."""
    is_on: bool = True
    """False once the model was seen not to aim; it stays off."""
    _out: dict[int, Aim] = field(default_factory=dict)

    def drawn(
        self, archive: Archive, unit: Sequence[float], rng: np.random.Generator
    ) -> tuple[int, ...]:
        """Return the cells near a parent (D,) that lack a network most, the drawn one first."""
        cells = archive.tessellation
        away = np.linalg.norm(cells.centroids - np.asarray(unit), axis=1)
        near = np.argsort(away, kind="stable")[1 : NEAR * cells.axes + 1]
        empty = near[archive.elites[near] == EMPTY]
        if not len(near):
            return ()
        if not len(empty):
            weak = np.argsort(archive.fitness[near], kind="stable")
            empty = near[np.sort(weak[: max(1, len(near) // 2)])]
        choice = empty.tolist()
        drawn = choice[int(rng.integers(len(choice)))]
        return (drawn, *(cell for cell in choice if cell != drawn))

    def ask(
        self,
        archive: Archive,
        parent: Sequence[float],
        rng: np.random.Generator,
        candidates: Iterable[int],
    ) -> int:
        """Draw the cell that the candidates of a place are asked for; -1: none is wanted.

        ``parent``: raw descriptors (D,) of their parent; empty where they are not known.
        """
        place = archive.tessellation.locate([parent])[0] if len(parent) else None
        if place is None or place.cell == EMPTY:
            return EMPTY
        if not (choice := self.drawn(archive, place.unit, rng)):
            return EMPTY
        start = distance(archive, choice[0], place.unit)
        self._out |= {one: Aim(one, choice[0], choice, start) for one in candidates}
        return choice[0]

    def tell(self, archive: Archive, evaluations: Sequence[Evaluation]) -> None:
        """Note where candidates came to lie that had a target, trained or not."""
        known = [one for one in evaluations if one.descriptors]
        places = archive.tessellation.locate([one.descriptors for one in known])
        for evaluation, place in zip(known, places, strict=True):
            aim = self._out.pop(evaluation.candidate, None)
            if aim is not None and place.cell != EMPTY:
                miss = distance(archive, aim.cell, place.unit)
                aim = replace(aim, found=place.cell, miss=miss)
            if aim is not None:
                self.done.append(aim)
        self.settle()

    def settle(self) -> None:
        """Switch off where enough answers hit no more than they would by chance."""
        fit = [aim for aim in self.done if aim.fits]
        if len(fit) >= TRIED and sum(a.hit for a in fit) <= math.fsum(a.chance for a in fit):
            self.is_on = False


def distance(archive: Archive, cell: int, unit: Sequence[float]) -> float:
    """Return how far a point (D,) lies from the middle of a cell, in sides of a cell."""
    cells = archive.tessellation
    away = np.linalg.norm(cells.centroids[cell] - np.asarray(unit))
    return float(away * cells.cells ** (1 / cells.axes))
