"""The two archives: an elite per cell, known by the number of its candidate.

Vocabulary and rules are those that users of pyribs know: statuses 0, 1 and 2, a strictly
higher fitness replaces, the first of equals stays. Unlike a batch added to pyribs, candidates
are added one by one, so a status says what happened and not what would have happened to the
candidate alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .tessellation import Floats, Location, Tessellation

EMPTY = -1


class AddStatus(IntEnum):
    """Fate of an offered candidate; numbers and names as in pyribs, but for the last.

    True if an elite changed.
    """

    NOT_ADDED = 0
    IMPROVE_EXISTING = 1
    NEW = 2
    FELL = 3
    """Trained again: it no longer is the elite, another one is."""


class Added(NamedTuple):
    """Result of :meth:`Archive.add`."""

    cell: int
    """-1 where the candidate was refused: a fitness or descriptor was NaN or infinite."""
    status: AddStatus
    clipped: bool
    """True where a descriptor lay outside the bounds."""


class Archive:
    """An archive of elites over a tessellation, every cell empty at first.

    Elites are numbers of candidates; what a candidate is stands in the record.
    """

    def __init__(self, tessellation: Tessellation) -> None:
        self.tessellation = tessellation
        cells = tessellation.cells
        self._elites: NDArray[np.int64] = np.full(cells, EMPTY, dtype=np.int64)
        self._fitness: Floats = np.full(cells, np.nan)
        self._descriptors: Floats = np.full((cells, tessellation.axes), np.nan)
        self._units: Floats = np.full((cells, tessellation.axes), np.nan)
        self._cells: dict[int, int] = {}
        self._found: dict[str | tuple[int, int], Any] = {}
        """Answers about the elites, until one changes."""

    # --- adding -----------------------------------------------------------------------------

    def add(
        self, candidate: int, fitness: float, descriptor: Sequence[float], **start: float
    ) -> Added:
        """Offer a candidate with its raw descriptors (D,), and where :meth:`place` takes it, the
        ``curiosity`` to start at.

        It becomes the elite of its cell if the cell is empty or its fitness is strictly
        higher. A fitness or descriptor that is NaN or infinite is refused, never raised.
        Raises ``ValueError`` for a negative number or one that already is an elite.
        """
        return self.place(candidate, fitness, self.tessellation.locate([descriptor])[0], **start)

    def place(self, candidate: int, fitness: float, location: Location) -> Added:
        """:meth:`add` for descriptors that :meth:`Tessellation.locate` has located."""
        if candidate < 0 or candidate in self._cells:
            reason = "is negative" if candidate < 0 else "already is an elite"
            raise ValueError(f"candidate {candidate} {reason}; each is added once")
        cell = location.cell
        if cell < 0 or not math.isfinite(fitness):
            return Added(EMPTY, AddStatus.NOT_ADDED, location.clipped)
        previous = int(self._elites[cell])
        if previous == EMPTY:
            status = AddStatus.NEW
        elif fitness > self._fitness[cell]:
            status = AddStatus.IMPROVE_EXISTING
            del self._cells[previous]
        else:
            return Added(cell, AddStatus.NOT_ADDED, location.clipped)
        self._take(candidate, fitness, location)
        return Added(cell, status, location.clipped)

    def settle(self, candidate: int, fitness: float, location: Location) -> None:
        """Make a candidate the elite of its cell whatever that holds, or change its fitness."""
        self._cells.pop(int(self._elites[location.cell]), None)
        self._take(candidate, fitness, location)

    def _take(self, candidate: int, fitness: float, location: Location) -> None:
        cell = location.cell
        self._elites[cell] = candidate
        self._fitness[cell] = fitness
        self._descriptors[cell] = location.descriptor
        self._units[cell] = location.unit
        self._cells[candidate] = cell
        self._found = {}

    # --- elites -----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._cells)

    def __contains__(self, candidate: object) -> bool:
        return candidate in self._cells

    def cell_of(self, candidate: int) -> int:
        """The cell whose elite ``candidate`` is. Raises ``KeyError`` if it is none."""
        return self._cells[candidate]

    def descriptors_of(self, candidate: int) -> tuple[float, ...]:
        """An elite's raw descriptors (D,); empty where ``candidate`` is none."""
        if candidate not in self._cells:
            return ()
        return tuple(self._descriptors[self._cells[candidate]].tolist())

    def candidates(self) -> NDArray[np.int64]:
        """The elites (num_elites,), in the order of their cells."""
        return np.asarray(self._elites[self._elites != EMPTY])

    def nearest(self, candidate: int, count: int) -> tuple[int, ...]:
        """The ``count`` elites nearest to an elite, the nearest first, without itself.

        Distance is Euclidean between the elites' scaled and clipped descriptors (not their
        centroids). Fewer come back where there are fewer. Raises ``KeyError`` where
        ``candidate`` is no elite.
        """
        own = self.cell_of(candidate)
        if (candidate, count) not in self._found:
            if "tree" not in self._found:
                occupied = np.flatnonzero(self._elites != EMPTY)
                self._found["tree"] = cKDTree(self._units[occupied]), occupied
            tree, occupied = self._found["tree"]
            wanted = min(count + 1, len(occupied))
            found = occupied[tree.query(self._units[own], k=[*range(1, wanted + 1)])[1]]
            # Dropped by its cell: another elite may have the very same scaled descriptors.
            others = found[found != own][:count]
            self._found[candidate, count] = tuple(self._elites[others].tolist())
        return tuple(self._found[candidate, count])

    def fittest(self) -> NDArray[np.int64]:
        """The elites (num_elites,), the fittest first, equals in the order of their cells."""
        if "fittest" not in self._found:
            occupied = np.flatnonzero(self._elites != EMPTY)
            order = np.argsort(-self._fitness[occupied], kind="stable")
            self._found["fittest"] = _read_only(self._elites[occupied[order]])
        return np.asarray(self._found["fittest"])

    # --- what a record stores -----------------------------------------------------------------

    @property
    def elites(self) -> NDArray[np.int64]:
        """The elite's candidate per cell (K,), -1 where empty. Read-only view."""
        return _read_only(self._elites)

    @property
    def fitness(self) -> Floats:
        """The elite's fitness per cell (K,), NaN where empty. Read-only view."""
        return _read_only(self._fitness)

    @property
    def descriptors(self) -> Floats:
        """The elite's raw descriptors per cell (K, D), NaN where empty. Read-only view."""
        return _read_only(self._descriptors)

    # --- statistics, named as in pyribs -------------------------------------------------------

    @property
    def num_elites(self) -> int:
        """Cells that hold an elite."""
        return len(self._cells)

    @property
    def coverage(self) -> float:
        """Share of the cells that hold an elite."""
        return len(self._cells) / self.tessellation.cells

    @property
    def qd_score(self) -> float:
        """Sum of the elites' fitness; 0 for an empty archive."""
        return float(self._fitness[self._elites != EMPTY].sum())


class Individual(NamedTuple):
    """A prompt with a temperature."""

    number: int
    """The candidate it was made for; its slot in a :class:`~.population.PromptPopulation`."""
    prompt: int
    temperature: float


class PromptArchive(Archive):
    """Archive of prompt individuals over (prompt, temperature), with their curiosity.

    An individual is known by the candidate that it was made for. It earns curiosity (Cully and
    Demiris, 2017) by its offspring, which leaves the archive with it; a newcomer starts at what
    its own offspring earned.
    """

    def __init__(self, tessellation: Tessellation) -> None:
        super().__init__(tessellation)
        self._curiosity: Floats = np.full(tessellation.cells, np.nan)

    def place(
        self, candidate: int, fitness: float, location: Location, *, curiosity: float = 0.0
    ) -> Added:
        """:meth:`Archive.place` with the curiosity to start at."""
        added = super().place(candidate, fitness, location)
        if added.status:
            self._curiosity[added.cell] = curiosity
        return added

    def earn(self, candidate: int, delta: float) -> bool:
        """Change an elite's curiosity; False if it is no longer in the archive."""
        if candidate not in self:
            return False
        self._curiosity[self.cell_of(candidate)] += delta
        return True

    @property
    def curiosity(self) -> Floats:
        """Curiosity per cell (K,), NaN where empty. Read-only view."""
        return _read_only(self._curiosity)

    def individual(self, candidate: int) -> Individual:
        """Raises ``KeyError`` where ``candidate`` is no elite."""
        prompt, temperature = self._descriptors[self.cell_of(candidate)].tolist()
        return Individual(candidate, int(prompt), temperature)

    def most_curious(self, count: int, rng: np.random.Generator) -> list[Individual]:
        """The ``count`` most curious individuals or all there are, the most curious first."""
        occupied = np.flatnonzero(self._elites != EMPTY)
        chosen = occupied[highest(self._curiosity[occupied], count, rng)]
        described = zip(
            self._elites[chosen].tolist(), self._descriptors[chosen].tolist(), strict=True
        )
        return [Individual(elite, int(prompt), heat) for elite, (prompt, heat) in described]

    def most_curious_of(self, prompt: int, rng: np.random.Generator) -> Individual | None:
        """The most curious individual of one prompt, one of equals at random; None: it has none."""
        cells = np.flatnonzero((self._descriptors[:, 0] == prompt) & (self._elites != EMPTY))
        if not len(cells):
            return None
        (best,) = cells[highest(self._curiosity[cells], 1, rng)].tolist()
        return self.individual(int(self._elites[best]))

    def curiosity_of(self, prompt: int) -> float:
        """Curiosity of a prompt's most curious individual; minus infinity: it has none."""
        return max(self._curiosity[self._descriptors[:, 0] == prompt].tolist(), default=-math.inf)

    def forget(self, prompt: int) -> None:
        """Empty the cells whose individuals are of one prompt."""
        cells = np.flatnonzero(self._descriptors[:, 0] == prompt)
        for elite in self._elites[cells].tolist():
            del self._cells[elite]
        self._elites[cells] = EMPTY
        for values in (self._fitness, self._curiosity, self._descriptors, self._units):
            values[cells] = np.nan
        self._found = {}

    def of_prompt(self, prompt: int) -> NDArray[np.int64]:
        """Individuals of one prompt, in the order of their cells."""
        return np.asarray(self._elites[self._descriptors[:, 0] == prompt])


def highest(values: Floats | Sequence[float], count: int, rng: np.random.Generator) -> NDArray[Any]:
    """Positions of the ``count`` highest values, the highest first, ties in random order."""
    shuffled = rng.permutation(len(values))
    order = np.argsort(-np.asarray(values)[shuffled], kind="stable")
    return np.asarray(shuffled[order[:count]])


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
