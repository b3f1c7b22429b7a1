"""Networks that are trained again because their niche cannot tell them apart.

With ``search.challenge = k`` a network's fitness is the mean over its trainings, and the elite of a
niche is its network of the highest mean, the first of equals. The runner-up challenges the elite
while the difference of their means lies within the noise; both are then trained again with other
seeds, each at most ``k`` times, until it does not. So an elite may fall.

The noise of two single trainings is ``search.noise``, that of two means of m and n trainings
``sqrt((1 / m + 1 / n) / 2)`` times that. Where the setting is 0 it is estimated from the trainings
of the same networks so far: the median of the absolute differences of two of them, over 0.6745,
which is a standard deviation of such a difference where these are normal. Until :data:`FEWEST`
networks have been trained again nothing is known of it, and every runner-up is a challenger.

After N. Justesen, S. Risi and J.-B. Mouret, MAP-Elites for noisy domains by adaptive sampling
(2019), who evaluate challenger and elite again, and M. Flageot and A. Cully, Uncertain
quality-diversity (2023).
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median
from typing import NamedTuple

from ..types import NO_PROMPT, REPEAT, Proposal
from .archive import EMPTY, Added, AddStatus, Archive
from .seeds import again
from .tessellation import Location
from .variation import NO_INDIVIDUAL

FEWEST = 5
"""Networks with several trainings from which on the noise is estimated."""

NORMAL = 0.6745
"""Median of the absolute value of a standard normal variable."""


class Repeat(NamedTuple):
    """A training that is due: of which network, and with which seed."""

    network: int
    training_seed: int


def proposals_of(
    repeats: Sequence[Repeat], generation: int, *, first: int, batch: int, several: int
) -> tuple[Proposal, ...]:
    """Propose trainings again for a generation's places from ``first`` on, in their order.

    ``batch``: places of a generation; ``several``: proposals for each place.
    """
    return tuple(
        Proposal(
            candidate=(generation * batch + index) * several + attempt,
            generation=generation,
            index=index,
            operator=REPEAT,
            parents=(repeat.network,),
            prompt=NO_PROMPT,
            temperature=math.nan,
            individual=NO_INDIVIDUAL,
            sampling_seed=-1,
            training_seed=repeat.training_seed,
            attempt=attempt,
        )
        for index, repeat in enumerate(repeats, first)
        for attempt in range(several)
    )


@dataclass
class Contender:
    """A network in its niche, known by the candidate that it was first trained as."""

    candidate: int
    place: Location
    seed: int
    """Seed of its first training."""
    most: int
    """Trainings that it may have in all."""
    scores: list[float]
    asked: int = 1
    """Trainings that were asked for; some may be out, or have come to nothing."""

    @property
    def mean(self) -> float:
        """Mean fitness over its trainings."""
        return math.fsum(self.scores) / len(self.scores)


@dataclass
class Challenges:
    """The contenders of every niche; what is told of them changes ``archive``."""

    archive: Archive
    further: int
    """``search.challenge``: trainings of a network beyond its first."""
    given_noise: float
    """``search.noise``; 0: estimated."""
    _niches: dict[int, list[Contender]] = field(default_factory=dict)
    _known: dict[int, Contender] = field(default_factory=dict)

    def offer(
        self, candidate: int, fitness: float, place: Location, *, seed: int, possible: int
    ) -> Added:
        """Offer a network that is new, as :meth:`.Archive.place`.

        ``possible``: trainings that can be had of it; 0: any number.
        """
        if place.cell < 0 or not math.isfinite(fitness):
            return Added(EMPTY, AddStatus.NOT_ADDED, place.clipped)
        most = min(1 + self.further, possible or math.inf)
        found = Contender(candidate, place, seed, int(most), [fitness])
        self._known[candidate] = found
        self._niches.setdefault(place.cell, []).append(found)
        return self._settled(found)

    def copy(self, place: Location) -> Added:
        """Return what becomes of a duplicate: it has no trainings of its own."""
        return Added(place.cell, AddStatus.NOT_ADDED, place.clipped)

    def again(self, network: int, fitness: float) -> Added:
        """Enter another training of a network; NaN: it came to nothing."""
        found = self._known[network]
        if math.isfinite(fitness):
            found.scores.append(fitness)
        return self._settled(found)

    def trainings(self, network: int) -> int:
        """Return over how many trainings the mean of a network is taken."""
        return len(self._known[network].scores) if network in self._known else 1

    def mean(self, network: int) -> float:
        """Return the mean fitness of a network."""
        return self._known[network].mean

    def noise(self) -> float:
        """Return within which difference two single trainings say nothing; infinity: unknown."""
        if self.given_noise:
            return self.given_noise
        several = [one.scores for one in self._known.values() if len(one.scores) > 1]
        if len(several) < FEWEST:
            return math.inf
        pairs = (pair for scores in several for pair in combinations(scores, 2))
        return median(abs(a - b) for a, b in pairs) / NORMAL

    def ask(self, most: int, out: Container[int]) -> list[Repeat]:
        """Ask for the trainings that are due, ``most`` of them, the first networks first.

        ``out``: networks that are being trained again already.
        """
        due = sorted(set(self._due()) - {c for c in self._known if c in out})[:most]
        found = []
        for network in due:
            contender = self._known[network]
            found.append(Repeat(network, again(contender.seed, contender.asked)))
            contender.asked += 1
        return found

    def _due(self) -> Iterator[int]:
        """Yield the networks of contests that are open and that may be trained again."""
        noise = self.noise()
        for members in self._niches.values():
            if len(members) < 2:
                continue
            elite, rival = sorted(members, key=lambda one: -one.mean)[:2]
            spread = math.sqrt((1 / len(elite.scores) + 1 / len(rival.scores)) / 2)
            if elite.mean - rival.mean <= noise * spread:
                yield from (one.candidate for one in (elite, rival) if one.asked < one.most)

    def _settled(self, changed: Contender) -> Added:
        """Give the niche of a contender that is new or has another mean to whom it belongs."""
        cell = changed.place.cell
        before = int(self.archive.elites[cell])
        best = max(self._niches[cell], key=lambda one: one.mean)  # the first of equals
        if best.candidate != before or best is changed:
            self.archive.settle(best.candidate, best.mean, best.place)
        if best.candidate == before:
            status = AddStatus.NOT_ADDED
        elif before == EMPTY:
            status = AddStatus.NEW
        else:
            status = AddStatus.IMPROVE_EXISTING if best is changed else AddStatus.FELL
        return Added(cell, status, changed.place.clipped)
