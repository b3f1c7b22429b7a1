"""The control on cells: each prompt does what it says, and nothing is written twice."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from llmatic_hpc.config import GeneratorSettings
from llmatic_hpc.problems.nasbench201.cells import (
    CONV3,
    EDGES,
    NONE,
    SKIP,
    Cell,
    architecture,
    neighbours,
)
from llmatic_hpc.problems.nasbench201.kind import PROMPTS
from llmatic_hpc.problems.nasbench201.procedural import PROMPTED, REPLACING, ProceduralCells
from llmatic_hpc.problems.nasbench201.write import cell_written, source
from llmatic_hpc.types import Request

SETTINGS = GeneratorSettings(kind="procedural")
PARENT: Cell = (CONV3, NONE, SKIP, 2, 4, NONE)


def request(number: int = 0, **changes: object) -> Request:
    made = Request(
        candidate=number,
        operator="mutation",
        prompt=0,
        instruction="",
        parents=(source(PARENT),),
        temperature=0.6,
        seed=number,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def written(requests: list[Request], settings: GeneratorSettings = SETTINGS) -> list[Cell]:
    found = ProceduralCells(settings).generate(requests)
    return [cell for completion in found if (cell := cell_written(completion.text))]


def changed(parent: Cell, child: Cell) -> list[int]:
    return [edge for edge in range(len(EDGES)) if parent[edge] != child[edge]]


def test_there_is_an_operation_for_each_prompt() -> None:
    assert len(PROMPTED) == len(PROMPTS)


@pytest.mark.parametrize("prompt", range(len(PROMPTED)))
def test_a_prompt_does_what_it_says(prompt: int) -> None:
    """Its operation, on one edge: in place of a layer where one is deleted, else where none is."""
    for seed in range(30):
        (child,) = written([request(seed, prompt=prompt)])
        (edge,) = changed(PARENT, child)
        assert child[edge] == PROMPTED[prompt]
        if PROMPTED[prompt] != NONE:
            assert (PARENT[edge] not in (NONE, SKIP)) == (prompt >= REPLACING)


def test_what_is_new_is_written_once() -> None:
    """In a batch of different prompts, a cell that is no neighbour's repeat is written once."""
    requests = [request(number, prompt=number % 9) for number in range(24)]
    found = [architecture(cell) for cell in written(requests)]
    near = {architecture(cell) for cell in neighbours(PARENT)}
    assert set(found) <= near
    assert len(set(found)) > 15


def test_what_has_a_score_is_repeated_only_where_the_prompt_leaves_nothing_else() -> None:
    near = neighbours(PARENT)
    asked = [
        c for c in near if c[changed(PARENT, c)[0]] == CONV3 and changed(PARENT, c)[0] in (1, 2, 5)
    ]
    seen = frozenset(architecture(cell) for cell in asked[:-1])
    for seed in range(20):
        assert written([request(seed, seen=seen)]) == asked[-1:]
    everything = frozenset(architecture(cell) for cell in near)
    found = [cell for seed in range(60) for cell in written([request(seed, seen=everything)])]
    repeated = [architecture(cell) in everything for cell in found]
    assert 0.6 < sum(repeated) / len(repeated) < 0.95
    assert all(len(changed(PARENT, c)) >= 2 for c, r in zip(found, repeated, strict=True) if not r)


def test_a_neighbour_by_its_number() -> None:
    requests = [request(n, operator="neighbour", neighbour=n) for n in range(24)]
    assert written(requests) == list(neighbours(PARENT))


def test_crossover_takes_each_edge_from_a_parent() -> None:
    mate: Cell = (NONE, CONV3, CONV3, CONV3, CONV3, CONV3)
    for seed in range(20):
        parents = (source(PARENT), source(mate))
        (child,) = written([request(seed, operator="crossover", parents=parents)])
        assert all(c in pair for c, *pair in zip(child, PARENT, mate, strict=True))
        assert child not in (PARENT, mate)


def test_random_cells_are_uniform_and_different() -> None:
    requests = [request(n, operator="random", parents=(source(PARENT),)) for n in range(1000)]
    found = written(requests)
    assert len(set(found)) == len(found)
    for edge in range(len(EDGES)):
        for operation in range(5):
            assert abs(sum(c[edge] == operation for c in found) / len(found) - 0.2) < 0.06


def test_the_same_requests_are_the_same_texts() -> None:
    requests = [request(n, prompt=random.Random(n).randrange(9)) for n in range(50)]
    assert written(requests) == written(requests)


def test_free_edits_grow_with_the_temperature() -> None:
    settings = replace(SETTINGS, edits="free", unseen=False)
    cold, hot = (
        sum(len(changed(PARENT, c)) for n in range(100)
            for c in written([request(n, temperature=heat)], settings))
        for heat in (0.05, 1.0)
    )  # fmt: skip
    assert cold < 0.6 * hot


def test_a_parent_that_is_no_cell_is_the_initial_one() -> None:
    (child,) = written([request(parents=("import os",))])
    assert len(changed((0, 0, 0, 1, 0, 0), child)) == 1
