"""Populations that take an archive's place in the paper's ablations (section 4.2)."""

from __future__ import annotations

import heapq
import math

import numpy as np
from numpy.typing import NDArray

from .archive import Individual, highest
from .tessellation import Floats, Location

TEMPERATURE_STEP = 0.1
"""Section 4.2: up by this when the offspring is added, down when it is not."""


class NetworkPopulation:
    """The ``size`` fittest networks, for the variant ``prompt-archive``.

    A newcomer enters while there is room, and later in place of the least fit if it is
    strictly fitter; among the least fit the newest leaves, so the first of equals stays.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        # A heap whose first is the next to leave: the least fit, the newest of equals.
        self._heap: list[tuple[float, int]] = []
        self._units: dict[int, tuple[float, ...]] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def offer(self, candidate: int, fitness: float, location: Location) -> bool:
        """Offer a candidate; return whether it entered. One with anything not finite does not."""
        if location.cell < 0 or not math.isfinite(fitness):
            return False
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, (fitness, -candidate))
        elif fitness > self._heap[0][0]:
            _, gone = heapq.heapreplace(self._heap, (fitness, -candidate))
            del self._units[-gone]
        else:
            return False
        self._units[candidate] = location.unit
        return True

    def candidates(self) -> NDArray[np.int64]:
        """The members, by number."""
        return np.array(sorted(self._units), dtype=np.int64)

    def most_similar(self, candidate: int, rng: np.random.Generator) -> int:
        """The other member with the highest cosine similarity, equals at random.

        Similarity is between descriptors in the unit square; where one is the origin it is
        0. Equals are the rule where FLOPs are clipped to the lower bound: all directions are
        the same then. Raises ``KeyError`` for no member, ``ValueError`` for the only one.
        """
        others = [other for other in sorted(self._units) if other != candidate]
        own = _directions(np.array([self._units[candidate]]))[0]
        if not others:
            raise ValueError(f"candidate {candidate} is the only member; nothing is similar to it")
        similarity = _directions(np.array([self._units[other] for other in others])) @ own
        equals = np.flatnonzero(similarity >= similarity.max() - 1e-12)
        return others[int(equals[rng.integers(len(equals))])]


class PromptPopulation:
    """A fixed number of random prompt individuals, for the variant ``network-archive``.

    Individuals are never replaced; what their offspring earn changes their one score and
    their temperature. They are known by their slot, from 0.
    """

    def __init__(
        self, size: int, prompts: int, *, lower: float, upper: float, rng: np.random.Generator
    ) -> None:
        self._lower, self._upper = lower, upper
        self._prompts = rng.integers(prompts, size=size)
        self._temperatures: Floats = rng.uniform(lower, upper, size=size)
        self._scores: Floats = np.zeros(size)

    def __len__(self) -> int:
        return len(self._scores)

    @property
    def scores(self) -> tuple[float, ...]:
        """Sum of what each individual's offspring have earned so far."""
        return tuple(self._scores.tolist())

    def individual(self, slot: int) -> Individual:
        """The individual as it stands now."""
        return Individual(slot, int(self._prompts[slot]), float(self._temperatures[slot]))

    def most_curious(self, count: int, rng: np.random.Generator) -> list[Individual]:
        """The ``count`` individuals with the highest score, equals in random order."""
        return [self.individual(slot) for slot in highest(self._scores, count, rng).tolist()]

    def reward(self, slot: int, delta: float, *, added: bool) -> float:
        """Add to an individual's score and move its temperature, which is returned."""
        self._scores[slot] += delta
        moved = self._temperatures[slot] + (TEMPERATURE_STEP if added else -TEMPERATURE_STEP)
        self._temperatures[slot] = np.clip(moved, self._lower, self._upper)
        return float(self._temperatures[slot])


def _directions(vectors: Floats) -> Floats:
    """Rows (N, 2) at unit length; a row of zeros stays."""
    lengths = np.hypot(vectors[:, 0], vectors[:, 1])[:, None]
    return vectors / np.where(lengths > 0, lengths, 1.0)
