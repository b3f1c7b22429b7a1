"""Cost of a study: that of each of its runs, added up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import groupby
from operator import add

from ...config import Config
from ...report.plan import Estimate
from .plan import Planned
from .running import shared


def estimates(
    runs: Sequence[Planned], at_once: int, estimate: Callable[[Config], Estimate]
) -> Iterator[tuple[list[Planned], Estimate]]:
    """Yield the runs that differ in their seeds alone, and what one of them costs.

    One is planned for all of them, with its part of the machine where ``at_once`` share it.
    """
    for _, group in groupby(runs, key=lambda run: run.name):
        own = list(group)
        yield own, estimate(shared(own[0].config, at_once))


def total(found: Sequence[tuple[list[Planned], Estimate]], at_once: int) -> Estimate:
    """Return the cost of all runs; the clock runs for ``at_once`` of them at the same time."""
    every = [one for runs, one in found for _ in runs]
    added = reduce(add, every)
    at_once = min(at_once, len(every))
    if at_once < 2:
        return added
    wall = {name: hours / at_once for name, hours in added.wall_hours.items()}
    note = f"the wall time is that of {at_once} runs at once"
    return dataclasses.replace(added, wall_hours=wall, notes=(*added.notes, note))
