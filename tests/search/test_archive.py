"""The archive keeps the first of the fittest per cell, one candidate at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
import ribs.archives
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from llmatic_hpc.search import Archive, PromptArchive, Tessellation, cvt
from llmatic_hpc.search.archive import highest

LOWER, UPPER = (0.0, 2e8), (200.0, 5e9)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def stream(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fitness with many ties, and raw descriptors, many of them in clusters or outside."""
    draw = rng(seed)
    fitness = draw.integers(100, size=count) / 100
    unit = np.where(
        draw.random((count, 1)) < 0.5,
        draw.uniform(-0.1, 1.1, (count, 2)),
        draw.normal(0.3, 0.05, (count, 2)),
    )
    return fitness, np.array(LOWER) + unit * (np.array(UPPER) - np.array(LOWER))


def pyribs_archive(tessellation: Tessellation) -> ribs.archives.CVTArchive:
    return ribs.archives.CVTArchive(
        solution_dim=1, centroids=tessellation.centroids, ranges=[(0, 1), (0, 1)]
    )


def pyribs_elites(archive: ribs.archives.CVTArchive) -> tuple[list[int], list[float]]:
    data = archive.data(["index", "solution", "objective"])
    elites = np.full(archive.cells, -1)
    fitness = np.full(archive.cells, np.nan)
    elites[data["index"]] = data["solution"][:, 0]
    fitness[data["index"]] = data["objective"]
    return elites.tolist(), fitness.tolist()


# --- against pyribs ---------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [100, 10_000])
def test_elites_are_those_of_pyribs(cells: int) -> None:
    """The same stream gives the same elite, fitness and statistics in every cell."""
    # Evenness does not matter here, and a full CVT of 10,000 cells takes its time.
    centroids = cvt(cells, samples=25_000, rng=rng()) if cells <= 100 else rng().random((cells, 2))
    tessellation = Tessellation(centroids, LOWER, UPPER)
    ours, theirs = Archive(tessellation), pyribs_archive(tessellation)
    fitness, raw = stream(20_000, seed=cells)
    units = tessellation.scale(raw)[0]
    for first in range(0, len(raw), 100):
        batch = slice(first, first + 100)
        theirs.add(np.arange(first, first + 100)[:, None], fitness[batch], units[batch])
        for candidate in range(first, first + 100):
            ours.add(candidate, float(fitness[candidate]), raw[candidate])
    elites, objectives = pyribs_elites(theirs)
    assert ours.elites.tolist() == elites
    np.testing.assert_array_equal(ours.fitness, objectives)
    assert ours.num_elites == theirs.stats.num_elites
    assert ours.coverage == pytest.approx(theirs.stats.coverage)
    assert ours.qd_score == pytest.approx(theirs.stats.qd_score)


def test_statuses_are_those_of_pyribs_one_by_one(network_cells: Tessellation) -> None:
    """Cell and status of each candidate equal those of pyribs' ``add_single``."""
    ours, theirs = Archive(network_cells), pyribs_archive(network_cells)
    fitness, raw = stream(1_000, seed=1)
    units = network_cells.scale(raw)[0]
    seen = set()
    for candidate in range(1_000):
        added = ours.add(candidate, float(fitness[candidate]), raw[candidate])
        told = theirs.add_single([candidate], fitness[candidate], units[candidate])
        assert added.status == told["status"]
        assert added.cell == theirs.index_of_single(units[candidate])
        seen.add(int(added.status))
    assert seen == {0, 1, 2}


# --- against a dictionary -----------------------------------------------------------------------

QUARTERS = Tessellation(
    np.array([[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]]), (0, 0), (1, 1)
)
NUMBERS = st.one_of(
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    st.floats(-1, 2, allow_nan=False),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=60))
def test_archive_is_a_dictionary_of_the_first_of_the_fittest(
    offered: list[tuple[float, float, float]],
) -> None:
    """Every status, elite and statistic is that of a naive dictionary."""
    archive, model = Archive(QUARTERS), dict[int, tuple[int, float]]()
    for candidate, (fitness, first, second) in enumerate(offered):
        added = archive.add(candidate, fitness, (first, second))
        if not all(math.isfinite(number) for number in (fitness, first, second)):
            assert added[:2] == (-1, 0)
            continue
        point = np.clip([first, second], 0, 1)
        distances = np.linalg.norm(QUARTERS.centroids - point, axis=1)
        assert distances[added.cell] == pytest.approx(distances.min())
        cell, status = added.cell, 0
        if cell not in model:
            status = 2
        elif fitness > model[cell][1]:
            status = 1
        if status:
            model[cell] = (candidate, fitness)
        assert added.status == status
        assert added.clipped == (not (0 <= first <= 1 and 0 <= second <= 1))
    assert [model.get(cell, (-1,))[0] for cell in range(4)] == archive.elites.tolist()
    assert archive.num_elites == len(archive) == len(model)
    assert archive.coverage == len(model) / 4
    assert archive.qd_score == pytest.approx(sum(fitness for _, fitness in model.values()))


def filled(descriptors: Iterable[tuple[float, float]], tessellation: Tessellation) -> Archive:
    archive = Archive(tessellation)
    for candidate, descriptor in enumerate(descriptors):
        archive.add(candidate, 0.0, descriptor)
    return archive


def test_first_of_equals_stays() -> None:
    """An equal fitness does not replace; a higher one does, by however little."""
    archive = Archive(QUARTERS)
    assert archive.add(0, 0.5, (0.1, 0.1)) == (0, 2, False)
    assert archive.add(1, 0.5, (0.2, 0.2)) == (0, 0, False)
    assert archive.add(2, np.nextafter(0.5, 1), (0.3, 0.3)) == (0, 1, False)
    assert archive.elites.tolist() == [2, -1, -1, -1]
    assert archive.descriptors[0].tolist() == [0.3, 0.3]
    assert 0 not in archive
    assert 2 in archive


def test_a_candidate_is_added_once() -> None:
    """A number that is an elite already, or none at all, is a bug of the caller."""
    archive = filled([(0.1, 0.1)], QUARTERS)
    with pytest.raises(ValueError, match="candidate 0 already is an elite"):
        archive.add(0, 1.0, (0.9, 0.9))
    with pytest.raises(ValueError, match="candidate -1 is negative"):
        archive.add(-1, 1.0, (0.9, 0.9))


def test_arrays_are_read_only() -> None:
    """Arrays that a record reads cannot be written to."""
    archive = PromptArchive(QUARTERS)
    for array in (archive.elites, archive.fitness, archive.descriptors, archive.curiosity):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


# --- neighbours -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_nearest_agrees_with_brute_force(network_cells: Tessellation, seed: int) -> None:
    """Neighbours are those by scaled descriptors, whatever was added in between."""
    archive = Archive(network_cells)
    fitness, raw = stream(300, seed)
    for candidate in range(300):
        archive.add(candidate, float(fitness[candidate]), raw[candidate])
        if candidate % 30 == 29:
            elites = archive.candidates()
            units = network_cells.scale(raw[elites])[0]
            distances = cdist(units, units)
            np.fill_diagonal(distances, np.inf)
            for row, elite in enumerate(elites.tolist()):
                found = archive.nearest(elite, 3)
                assert elite not in found
                got = [distances[row, elites.tolist().index(other)] for other in found]
                assert got == pytest.approx(np.sort(distances[row])[: len(found)].tolist())
                assert len(found) == min(3, len(elites) - 1)


def test_nearest_is_by_scaled_descriptors() -> None:
    """FLOPs in the billions must not drown the ratio."""
    archive = filled([(0.0, 2e8), (100.0, 2.1e8), (0.0, 2e9)], Tessellation(
        np.array([[0.1, 0.0], [0.5, 0.0], [0.0, 0.5]]), LOWER, UPPER
    ))  # fmt: skip
    assert archive.nearest(0, 2) == (2, 1)


def test_nearest_returns_what_there_is() -> None:
    """Alone, an elite has no neighbours; an unknown candidate is a KeyError."""
    archive = filled([(0.1, 0.1)], QUARTERS)
    assert archive.nearest(0, 3) == ()
    archive.add(1, 0.0, (0.9, 0.9))
    assert archive.nearest(0, 3) == (1,)
    with pytest.raises(KeyError):
        archive.nearest(7, 1)


def test_nearest_drops_itself_and_no_twin() -> None:
    """An elite whose clipped descriptors coincide with another's is its neighbour."""
    # On the border of all four cells; where the tree puts them is its own affair.
    archive = Archive(QUARTERS)
    for cell in range(4):
        location = QUARTERS.locate([(0.5, 0.5)])[0]._replace(cell=cell)
        archive.place(cell, 0.0, location)
    for candidate in range(4):
        assert sorted(archive.nearest(candidate, 3)) == [c for c in range(4) if c != candidate]


# --- prompt individuals -----------------------------------------------------------------------


def prompts() -> PromptArchive:
    """Individuals 0, 1 of prompts 2, 9 with curiosity 1.0, -0.5."""
    tessellation = Tessellation(QUARTERS.centroids, (0, 0), (16, 1))
    archive = PromptArchive(tessellation)
    archive.add(0, 0.0, (2, 0.3), curiosity=1.0)
    archive.add(1, 0.0, (9, 0.8), curiosity=-0.5)
    return archive


def test_individuals_keep_prompt_and_temperature() -> None:
    """An individual is its candidate, its prompt and its temperature, unscaled."""
    archive = prompts()
    assert archive.individual(1) == (1, 9, 0.8)
    assert archive.of_prompt(9).tolist() == [1]
    assert archive.of_prompt(3).tolist() == []


def test_curiosity_belongs_to_the_individual() -> None:
    """It changes in place, and leaves with the individual that is replaced."""
    archive = prompts()
    assert archive.earn(0, -0.5)
    assert archive.curiosity[archive.cell_of(0)] == 0.5
    archive.add(2, 1.0, (2, 0.35), curiosity=-1.0)
    assert archive.curiosity[archive.cell_of(2)] == -1.0
    assert not archive.earn(0, 1.0)
    assert archive.curiosity[archive.cell_of(2)] == -1.0


def test_rejected_individual_leaves_curiosity_alone() -> None:
    """An individual that did not enter changes nothing of the elite in its cell."""
    archive = prompts()
    assert archive.add(2, 0.0, (2, 0.35), curiosity=9.0).status == 0
    assert archive.curiosity[archive.cell_of(0)] == 1.0


def test_most_curious_come_first_and_ties_in_random_order() -> None:
    """The highest curiosity leads; equals take every order."""
    archive = prompts()
    assert [i.number for i in archive.most_curious(5, rng())] == [0, 1]
    assert [i.number for i in archive.most_curious(1, rng())] == [0]
    orders = {tuple(highest([1.0, 3.0, 1.0, 3.0], 3, rng(seed)).tolist()) for seed in range(100)}
    assert orders == {(1, 3, 0), (1, 3, 2), (3, 1, 0), (3, 1, 2)}
    assert PromptArchive(QUARTERS).most_curious(5, rng()) == []
