"""Packing of candidates into tasks. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TypeVar

from .backend import Work

FIXED_COST_FLOPS = 2e6
"""Cost of a candidate beside its own arithmetic, in FLOPs: loading, forking, scoring."""

T = TypeVar("T")


def task_count(items: int, *, parallelism: int, per_task: int) -> int:
    """Return how many tasks ``items`` candidates make; ``per_task`` 0 spreads them evenly."""
    if items == 0:
        return 0
    return -(-items // per_task) if per_task else min(parallelism, items)


def pack(work: Sequence[Work], tasks: int, *, most: int = 0) -> list[list[Work]]:
    """Pack balanced tasks by longest processing time first.

    ``most``: candidates of a task at most; 0: any number. ``tasks`` must be enough for it.

    R. L. Graham, Bounds on multiprocessing timing anomalies (1969): at most 4/3 of the
    optimum's length. Ties keep the order of the candidates.
    """
    loads = [(0.0, 0, number) for number in range(tasks)]
    packed: list[list[Work]] = [[] for _ in range(tasks)]
    for item in sorted(work, key=lambda w: (-w.flops, w.candidate)):
        load, count, number = heapq.heappop(loads)
        packed[number].append(item)
        if count + 1 != most:
            heapq.heappush(loads, (load + item.flops + FIXED_COST_FLOPS, count + 1, number))
    return [items for items in packed if items]
