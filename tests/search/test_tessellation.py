"""Descriptors reach the unit square, every part of it, and cells are even and stable."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from ribs.archives import k_means_centroids
from scipy.spatial.distance import cdist

from llmatic_hpc.config import NetworkArchiveSettings, PromptArchiveSettings, network_axes
from llmatic_hpc.errors import ConfigError
from llmatic_hpc.problems.images.kind import DESCRIPTORS
from llmatic_hpc.search import Archive, Tessellation, cvt
from llmatic_hpc.search.tessellation import network_tessellation, prompt_tessellation

INITIAL_NETWORK_FLOPS = 13_312.0


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def mean_squared_distance(centroids: NDArray[np.float64]) -> float:
    """Mean distance of uniform points to their nearest centroid: what a CVT makes small."""
    points = rng(99).random((20_000, 2))
    nearest = [cdist(chunk, centroids, "sqeuclidean").min(1) for chunk in np.split(points, 20)]
    return float(np.concatenate(nearest).mean())


# --- quality --------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [25, 100, 400])
@pytest.mark.parametrize("seed", [0, 1])
def test_cvt_is_as_even_as_a_regular_grid(cells: int, seed: int) -> None:
    """The mean squared distance is within 10 % of a square grid's, 1 / (6 cells)."""
    assert mean_squared_distance(cvt(cells, samples=25_000, rng=rng(seed))) * 6 * cells < 1.10


def test_cvt_is_as_even_as_that_of_pyribs() -> None:
    """The mean squared distance is at most 10 % above pyribs'."""
    theirs, _ = k_means_centroids(centroids=100, ranges=[(0, 1), (0, 1)], samples=25_000, seed=0)
    ours = cvt(100, samples=25_000, rng=rng())
    assert mean_squared_distance(ours) < 1.10 * mean_squared_distance(theirs)


def test_cvt_converges_to_the_known_optimum() -> None:
    """One cell's centroid is the square's centre; two lie at the quarters of an axis."""
    assert cvt(1, samples=100_000, rng=rng()) == pytest.approx(np.array([[0.5, 0.5]]), abs=0.01)
    two = cvt(2, samples=100_000, rng=rng(), tolerance=1e-4)
    across = two[:, np.argmax(np.ptp(two, axis=0))]
    assert sorted(across.tolist()) == pytest.approx([0.25, 0.75], abs=0.02)


def test_cvt_repeats_with_its_seed() -> None:
    """The same seed gives the same centroids, another seed others."""
    first, again, other = (cvt(50, samples=5_000, rng=rng(seed)) for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("cells", [1, 3, 100, 300])
def test_cvt_has_as_many_distinct_cells_as_asked_even_from_few_samples(cells: int) -> None:
    """250 points a cell are taken where `samples` is less; every cell can be reached."""
    tessellation = Tessellation(cvt(cells, samples=1, rng=rng()), (0, 0), (1, 1))
    reached = tessellation.cell_of(rng(3).random((cells * 200, 2)))
    assert len(np.unique(reached)) == cells


# --- scaling --------------------------------------------------------------------------------


def test_trap_random_descriptors_reach_nearly_every_cell(network_cells: Tessellation) -> None:
    """A uniform sample within the raw bounds reaches more than 90 of 100 cells.

    Descriptors that are handed unscaled to centroids of the unit square reach two.
    """
    raw = rng().uniform(network_cells.lower, network_cells.upper, (2_000, 2))
    assert len({place.cell for place in network_cells.locate(raw)}) > 90
    assert len(np.unique(network_cells.cell_of(raw))) < 5


def test_trap_random_prompts_reach_nearly_every_cell_of_their_range(
    prompt_cells: Tessellation,
) -> None:
    """Sixteen prompts at any temperature reach more than 90 of 100 cells."""
    raw = np.stack([rng().integers(16, size=4_000), rng(1).random(4_000)], axis=1)
    assert len({place.cell for place in prompt_cells.locate(raw)}) > 90


def test_clipping_is_recorded(network_cells: Tessellation) -> None:
    """The initial network lies far below the FLOPs bound: bottom row, and marked so."""
    small, inside, both = network_cells.locate(
        [(3.0, INITIAL_NETWORK_FLOPS), (100.0, 1e9), (1e6, 1e12)]
    )
    assert [place.clipped for place in (small, inside, both)] == [True, False, True]
    assert small.unit == (3.0 / 200, 0.0)
    assert small.descriptor == (3.0, 13_312.0)
    assert both.unit == (1.0, 1.0)


def test_bounds_are_inside(network_cells: Tessellation) -> None:
    """A descriptor on a bound is not clipped and scales to 0 or 1."""
    lowest, highest = network_cells.locate([network_cells.lower, network_cells.upper])
    assert (lowest.clipped, lowest.unit) == (False, (0.0, 0.0))
    assert (highest.clipped, highest.unit) == (False, (1.0, 1.0))


def test_log_axis_spreads_orders_of_magnitude() -> None:
    """On a logarithmic axis the geometric mean of the bounds is the middle."""
    settings = replace(NetworkArchiveSettings(), lower=(0.0, 1e4), upper=(200.0, 1e10))
    logarithmic = network_tessellation(
        settings,
        network_axes(replace(settings, scale=("linear", "log")), DESCRIPTORS),
        samples=1_000,
        rng=rng(),
    )
    assert logarithmic.scale([50.0, 1e7])[0].tolist() == pytest.approx([0.25, 0.5])
    unit, clipped = logarithmic.scale([50.0, 0.0])
    assert unit.tolist() == [0.25, 0.0]
    assert clipped


@given(st.lists(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True)] * 2), max_size=20))
def test_any_descriptors_are_located_or_refused(raw: list[tuple[float, float]]) -> None:
    """Finite descriptors get a cell and unit coordinates in [0, 1]; others get cell -1."""
    tessellation = Tessellation(
        np.array([[0.2, 0.2], [0.7, 0.9]]), (-1, 1), (1, 1e9), (False, True)
    )
    places = tessellation.locate(raw)
    assert len(places) == len(raw)
    for (first, second), place in zip(raw, places, strict=True):
        if math.isfinite(first) and math.isfinite(second):
            assert place.cell in (0, 1)
            assert all(0 <= axis <= 1 for axis in place.unit)
        else:
            assert place.cell == -1


@given(seed=st.integers(0, 1_000))
def test_cells_are_the_nearest_centroids(seed: int) -> None:
    """The k-d tree agrees with brute force."""
    centroids, points = rng(seed).random((30, 2)), rng(seed + 1).random((50, 2))
    found = Tessellation(centroids, (0, 0), (1, 1)).cell_of(points)
    assert found.tolist() == cdist(points, centroids).argmin(axis=1).tolist()


# --- grids ----------------------------------------------------------------------------------


def test_network_grid_is_square() -> None:
    """100 cells are 10 x 10 equal ones: a cell is its row and column."""
    grid = network_tessellation(
        replace(NetworkArchiveSettings(), kind="grid"), DESCRIPTORS, samples=1, rng=rng()
    )
    units = rng(5).random((500, 2))
    rows, columns = np.floor(units * 10).astype(int).T
    assert grid.cell_of(units).tolist() == (rows * 10 + columns).tolist()


def test_network_grid_needs_a_square_number() -> None:
    """The error names the setting and the nearest squares."""
    settings = replace(NetworkArchiveSettings(), kind="grid", cells=90)
    with pytest.raises(ConfigError, match=r"archive\.network\.cells.* 90; 81 and 100"):
        network_tessellation(settings, DESCRIPTORS, samples=1, rng=rng())


@pytest.mark.parametrize("cells", [4, 100, 160])
def test_prompt_grid_never_mixes_prompts(cells: int) -> None:
    """Each of the 16 prompts has cells // 16 niches of temperature, at least one."""
    settings = replace(PromptArchiveSettings(), kind="grid", cells=cells)
    grid = prompt_tessellation(settings, samples=1, rng=rng())
    niches = max(1, cells // 16)
    assert grid.cells == 16 * niches
    temperatures = np.linspace(0, 1, 101)
    for prompt in range(16):
        raw = np.stack([np.full(101, prompt), temperatures], axis=1)
        cells_of_prompt = {place.cell for place in grid.locate(raw)}
        assert cells_of_prompt == set(range(prompt * niches, (prompt + 1) * niches))


def test_prompt_cvt_mixes_prompts_as_the_paper_has_it(prompt_cells: Tessellation) -> None:
    """Most cells of the CVT hold two or more prompts: why a record names elites' prompts."""
    raw = [(prompt, t) for prompt in range(16) for t in np.linspace(0, 1, 101)]
    prompts: dict[int, set[int]] = {}
    for (prompt, _), place in zip(raw, prompt_cells.locate(raw), strict=True):
        prompts.setdefault(place.cell, set()).add(prompt)
    assert sum(len(found) > 1 for found in prompts.values()) > 50


# --- stored and rebuilt -----------------------------------------------------------------------


def test_tessellation_is_rebuilt_from_what_is_stored(network_cells: Tessellation) -> None:
    """Centroids and bounds are all there is to it."""
    rebuilt = Tessellation(
        network_cells.centroids.copy(),
        tuple(np.array(network_cells.lower).tolist()),
        tuple(np.array(network_cells.upper).tolist()),
        network_cells.log_axes,
    )
    raw = rng().uniform((-10, 0), (250, 6e9), (1_000, 2))
    assert rebuilt.locate(raw) == network_cells.locate(raw)


def test_tessellation_cannot_be_changed(network_cells: Tessellation) -> None:
    """Its centroids are a read-only copy of what was given."""
    given_centroids = np.array([[0.5, 0.5]])
    tessellation = Tessellation(given_centroids, (0, 0), (1, 1))
    given_centroids[:] = 0
    assert tessellation.centroids.tolist() == [[0.5, 0.5]]
    with pytest.raises(ValueError, match="read-only"):
        network_cells.centroids[0] = 0


@pytest.mark.parametrize(
    ("centroids", "lower", "upper", "log_axes", "message"),
    [
        (np.zeros((0, 2)), (0, 0), (1, 1), (False, False), "shape"),
        (np.zeros((3, 3)), (0, 0), (1, 1), (False, False), "per axis, 3"),
        (np.array([[0.5, 1.5]]), (0, 0), (1, 1), (False, False), "unit cube"),
        (np.array([[0.5, np.nan]]), (0, 0), (1, 1), (False, False), "unit cube"),
        (np.zeros((1, 2)), (0, 0, 0), (1, 1), (False, False), "per axis"),
        (np.zeros((1, 2)), (0, 1), (1, 1), (False, False), "exceed"),
        (np.zeros((1, 2)), (0, 0), (1, np.inf), (False, False), "exceed"),
        (np.zeros((1, 2)), (0, 0), (1, 1), (False, True), "logarithmic"),
    ],
)
def test_nonsense_is_refused(
    centroids: NDArray[np.float64],
    lower: tuple[float, ...],
    upper: tuple[float, ...],
    log_axes: tuple[bool, ...],
    message: str,
) -> None:
    """A tessellation that is not one says why."""
    with pytest.raises(ValueError, match=message):
        Tessellation(centroids, lower, upper, log_axes)


def test_coverage_of_a_random_archive(network_cells: Tessellation) -> None:
    """An archive fed with uniform raw descriptors fills, through its public door."""
    archive = Archive(network_cells)
    raw = rng().uniform(network_cells.lower, network_cells.upper, (2_000, 2))
    for candidate, descriptor in enumerate(raw.tolist()):
        archive.add(candidate, 0.0, descriptor)
    assert archive.num_elites > 90
