"""Promotion from rung to rung: which candidates train on, by the elites of their niches. Pure.

A rung is a number of epochs before the last. Of two networks of a niche the better one there is
mostly the better one in full; the elite to beat is known, which a search without niches lacks.
Best of the niche's newcomers alone: K. Jamieson and A. Talwalkar, Non-stochastic best arm
identification and hyperparameter optimization (2016), within a niche.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Newcomer(NamedTuple):
    """A candidate at a rung."""

    candidate: int
    cell: int
    """Its niche; -1: none."""
    score: float


def stopped(
    newcomers: Sequence[Newcomer],
    incumbents: Mapping[int, float],
    *,
    margin: float,
    best_only: bool,
) -> dict[int, str]:
    """Return the candidates that train no further, each with the reason.

    ``incumbents`` are the scores, at the same rung, of the elites when the generation began, by
    niche; an empty niche admits all. The others go on that are no worse than their incumbent minus
    ``margin``; with ``best_only`` of a niche's newcomers the best alone, the first of equals.
    """
    found = {}
    best: dict[int, Newcomer] = {}
    for one in newcomers:
        bar = incumbents.get(one.cell, -math.inf) - margin
        if one.cell < 0:
            found[one.candidate] = "it has no niche"
        elif one.score < bar:
            found[one.candidate] = f"{one.score:.4f}, and its niche asks for {bar:.4f}"
        elif one.cell not in best or one.score > best[one.cell].score:
            best[one.cell] = one
    if best_only:
        for one in newcomers:
            if one.candidate not in found and (rival := best[one.cell]) is not one:
                found[one.candidate] = f"{one.score:.4f}, candidate {rival.candidate} is better"
    return found
