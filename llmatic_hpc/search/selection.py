"""Selection from an archive: turns within a batch's halves, and parents among the elites."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from ..config import SearchSettings
from .archive import Archive, PromptArchive
from .population import NetworkPopulation

T = TypeVar("T")

Parents = Callable[[np.random.Generator, int], tuple[int, ...]]
"""Draws the parents of a candidate. Its second argument is the candidate's turn in the first,
curious half of the batch, or -1 in the other half."""


def turn(batch: int, generation: int, index: int, *, small: bool) -> tuple[bool, int]:
    """Say whether a candidate is of the first, larger half of its batch, and its turn there.

    ``small``: in a batch of one or two, where a half has one place or none, the places take turns
    by generation.
    """
    if small and batch == 1:
        return generation % 2 == 0, generation // 2
    if small and batch == 2:
        return index == 0, generation
    half = (batch + 1) // 2
    return index < half, index if index < half else index - half


def in_turn(individuals: Sequence[T], position: int) -> T:
    """The individual at ``position`` of a half of the batch, taken in turn.

    An even number of individuals is shifted by one each round. Otherwise the same ones would
    always meet the positions that add noise to the temperature.
    """
    count = len(individuals)
    shift = position // count if count % 2 == 0 else 0
    return individuals[(position + shift) % count]


def parents(
    settings: SearchSettings,
    networks: Archive | NetworkPopulation,
    rng: Callable[[], np.random.Generator],
) -> Parents:
    """Make the draw of ``search.parents``; ``rng`` breaks ties among the most curious.

    A population that replaces the archive is always drawn from uniformly.
    """
    if settings.parents == "tournament" and isinstance(networks, Archive):
        ranked = networks.fittest()

        def fittest(rng: np.random.Generator, position: int) -> tuple[int, ...]:
            ranks = rng.integers(len(ranked), size=settings.tournament)
            return (int(ranked[ranks.min()]),)

        return fittest if len(ranked) else lambda rng, position: ()

    elites = networks.candidates()
    curious: list[int] = []
    if settings.parents == "curious" and isinstance(networks, PromptArchive):  # retired
        curious = [i.number for i in networks.most_curious(settings.curious_individuals, rng())]

    def draw(rng: np.random.Generator, position: int) -> tuple[int, ...]:
        if curious and position >= 0:
            return (in_turn(curious, position),)
        return (int(elites[rng.integers(len(elites))]),) if len(elites) else ()

    return draw
