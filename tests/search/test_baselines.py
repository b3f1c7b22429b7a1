"""Regularized evolution and local search against plain loops on a made-up landscape."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import pytest

from llmatic_hpc.search.baselines import LocalSearch, RegularizedEvolution
from llmatic_hpc.types import Evaluation

NEIGHBOURS = 6


def fitness_of(point: int) -> float:
    """Fitness of the points 0 to 4095: rugged, but the same each time."""
    return float(np.random.default_rng(point).random() + bin(point).count("1") / 4)


def neighbour(point: int, number: int) -> int:
    return point ^ (1 << (2 * number % 12))


def drive(
    search: RegularizedEvolution | LocalSearch, generations: int, batch: int
) -> tuple[list[tuple[int, int]], list[int]]:
    """Proposals (parent, number), and the points; random ones are drawn from the streams."""
    points: list[int] = []
    asked: list[tuple[int, int]] = []
    for generation in range(generations):
        proposals = search.ask(np.random.default_rng([generation, index]) for index in range(batch))
        first = len(points)
        for index, (parent, number) in enumerate(proposals):
            rng = np.random.default_rng([7, generation, index])
            points.append(
                int(rng.integers(4096)) if parent < 0 else neighbour(points[parent], number)
            )
        asked += proposals
        search.tell(
            [
                Evaluation(first + i, "scored", fitness_of(points[first + i]))
                for i in range(len(proposals))
            ]
        )
    return asked, points


def test_regularized_evolution_is_the_plain_loop() -> None:
    """A queue, a tournament and the death of the oldest, written down directly."""
    asked, points = drive(RegularizedEvolution(population=10, tournament=3, neighbours=6), 300, 1)
    queue: deque[int] = deque()
    for number, (parent, edge) in enumerate(asked):
        if len(queue) < 10:
            assert (parent, edge) == (-1, -1)
            queue.append(number)
            continue
        rng = np.random.default_rng([number, 0])
        drawn = [queue[i] for i in rng.integers(10, size=3)]
        assert parent == max(drawn, key=lambda i: fitness_of(points[i]))
        assert edge == int(rng.integers(6))
        queue.append(number)
        queue.popleft()


@pytest.mark.parametrize("first_improvement", [False, True])
def test_local_search_is_the_plain_loop(first_improvement: bool) -> None:
    """All neighbours or up to the first better one, a move up, and a restart at an optimum."""
    search = LocalSearch(neighbours=NEIGHBOURS, first_improvement=first_improvement)
    asked, points = drive(search, 400, 1)
    at, restarts = 0, 0
    while at < len(asked):
        assert asked[at] == (-1, -1)
        restarts += 1
        current, at = at, at + 1
        climbing = True
        while climbing and at < len(asked):
            tried: list[int] = []
            best, seen = current, at
            while at < len(asked) and len(tried) < NEIGHBOURS:
                assert asked[at][0] == current
                tried.append(asked[at][1])
                if fitness_of(points[at]) > fitness_of(points[best]):
                    best = at
                at += 1
                if first_improvement and best != current:
                    break
            assert len(set(tried)) == len(tried), "a neighbour twice"
            climbing = best != current
            current = best
            assert at > seen
    assert restarts > 5


@pytest.mark.parametrize("batch", [2, 4, 5, 24])
def test_local_search_in_batches_goes_where_single_steps_go(batch: int) -> None:
    """A batch that does not divide the neighbours is filled with repeats, never with others."""
    asked, points = drive(LocalSearch(neighbours=6, first_improvement=False), 60, batch)
    for generation in range(60):
        proposals = asked[generation * batch : (generation + 1) * batch]
        parents = {parent for parent, _ in proposals}
        assert len(parents) == 1
        if parents == {-1}:
            continue
        assert len({number for _, number in proposals}) == min(batch, len(set(proposals)))
    best = max(map(fitness_of, points))
    assert best > np.quantile([fitness_of(p) for p in range(4096)], 0.95)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LocalSearch(neighbours=4, first_improvement=False),
        lambda: RegularizedEvolution(population=4, tournament=40, neighbours=4),
    ],
)
def test_what_cannot_be_trained_is_the_worst(
    make: Callable[[], LocalSearch | RegularizedEvolution],
) -> None:
    """An untrainable network is never moved to while another is there."""
    search = make()
    numbers = iter(range(10_000))
    for generation in range(40):
        rngs = [np.random.default_rng([generation, i]) for i in range(2)]
        search.ask(rngs)
        search.tell(
            [
                Evaluation(next(numbers), "scored", 0.5),
                Evaluation(next(numbers), "untrainable"),
            ]
        )
    parents = {parent for parent, _ in search.ask([np.random.default_rng(9)])}
    assert all(parent % 2 == 0 or parent == -1 for parent in parents)
