"""Wanted niches: which are drawn, what counts as a hit, and when they switch themselves off."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from llmatic_hpc.search import Search, Tessellation
from llmatic_hpc.search.archive import Archive
from llmatic_hpc.search.targets import NEAR, TRIED, Aiming
from llmatic_hpc.types import Evaluation, Proposal

from .conftest import evaluate

INITIAL = (50.0, 1e9)


def told(search: Search, proposal: Proposal, unit: tuple[float, float]) -> Evaluation:
    raw = search.network_archive.tessellation.raw(unit)
    return Evaluation(proposal.candidate, "scored", 0.5, raw)


def test_raw_descriptors_are_the_inverse_of_scaled_ones(network_cells: Tessellation) -> None:
    """On linear and logarithmic axes."""
    logarithmic = replace(network_cells, lower=(1.0, 2e8), log_axes=(True, True))
    for cells in (network_cells, logarithmic):
        raw = [cells.raw(centroid) for centroid in cells.centroids.tolist()]
        assert np.allclose(cells.scale(raw)[0], cells.centroids)


def test_a_target_is_an_empty_cell_near_the_parent(network_cells: Tessellation) -> None:
    """One of the eight nearest but the parent's own; where none is empty, of the weaker half."""
    archive, aiming = Archive(network_cells), Aiming()
    unit = (0.5, 0.5)
    away = np.linalg.norm(network_cells.centroids - unit, axis=1)
    own, *near = np.argsort(away)[: 2 * NEAR + 1].tolist()
    drawn = {aiming.drawn(archive, unit, np.random.default_rng(n)) for n in range(200)}
    assert {choice[0] for choice in drawn} == set(near)
    assert all(set(choice) == set(near) for choice in drawn)
    for number, cell in enumerate([own, *near[:-2]]):
        archive.add(number, 0.5, network_cells.raw(network_cells.centroids[cell].tolist()))
    drawn = {aiming.drawn(archive, unit, np.random.default_rng(n)) for n in range(100)}
    assert {choice[0] for choice in drawn} == set(near[-2:])
    for number, cell in enumerate(near[-2:], 100):
        archive.add(number, 0.9, network_cells.raw(network_cells.centroids[cell].tolist()))
    drawn = {aiming.drawn(archive, unit, np.random.default_rng(n)) for n in range(100)}
    assert {choice[0] for choice in drawn} == set(near[:4])


def test_targets_are_part_of_proposals(make_search: Callable[..., Search]) -> None:
    """Drawn apart from all else: without them everything is as it was."""
    plain = make_search(batch=8)
    aimed = make_search(batch=8, targets=True)
    aimed._initial = INITIAL
    for _ in range(6):
        expected, asked = plain.ask(), aimed.ask()
        assert [replace(p, target=-1) for p in asked] == list(expected)
        assert all(p.target == -1 for p in expected)
        assert all(p.target >= 0 for p in asked if p.operator in ("mutation", "crossover"))
        plain.tell(evaluate(expected))
        aimed.tell(evaluate(asked))
    assert aimed.aiming.done


def test_a_model_that_aims_keeps_its_targets(make_search: Callable[..., Search]) -> None:
    """Answers in the middle of the wanted cell are hits at no distance."""
    search = make_search(batch=20, targets=True)
    search._initial = INITIAL
    for _ in range(5):
        asked = search.ask()
        centroids = search.network_archive.tessellation.centroids
        search.tell([told(search, p, tuple(centroids[p.target])) for p in asked])
    aims = search.aiming.done
    assert search.aiming.is_on
    assert len(aims) == 100
    assert all(aim.hit for aim in aims)
    assert max(aim.miss for aim in aims) < 1e-6 < min(aim.start for aim in aims)


def test_a_model_that_does_not_aim_switches_targets_off(make_search: Callable[..., Search]) -> None:
    """After sixty answers that fit, no sooner, for good; a replay does the same."""
    search, again = make_search(batch=20, targets=True), make_search(batch=20, targets=True)
    search._initial = again._initial = INITIAL
    seen = []
    for _ in range(5):
        asked = search.ask()
        assert asked == again.ask()
        evaluations = [told(search, p, (0.01, 0.99)) for p in asked]
        search.tell(evaluations)
        again.tell(evaluations)
        seen.append(search.aiming.is_on)
        if not search.aiming.is_on:
            assert all(p.target == -1 for p in search.ask())
            break
    assert seen == [True] * (TRIED // 20 - 1) + [False]


def test_what_was_passed_over_counts_and_what_does_not_fit_does_not(
    make_search: Callable[..., Search],
) -> None:
    """Nothing has to be trained to see whether a model aims."""
    search = make_search(batch=1, oversample=2, targets=True)
    search._initial = INITIAL
    first, second = search.ask()
    assert first.target == second.target
    passed = replace(told(search, first, (0.5, 0.5)), status="passed_over", fitness=math.nan)
    unfit = Evaluation(second.candidate, "untrainable", descriptors=(math.nan, math.nan))
    search.tell([passed, unfit])
    assert [aim.fits for aim in search.aiming.done] == [True, False]
