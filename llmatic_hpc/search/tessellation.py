"""Cells of an archive: centroids in the unit square, and how descriptors get there.

Descriptors are scaled to the unit square by the archive's bounds and clipped to it; a cell
is the Voronoi region of its centroid. Centroids are stored with a run and never computed
again when it is continued.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.vq import vq
from scipy.spatial import cKDTree

from ..config import NetworkArchiveSettings, PromptArchiveSettings
from ..errors import ConfigError

Floats = NDArray[np.float64]

SAMPLES_PER_CELL = 250
"""Fewer points per cell leave visibly uneven cells."""

MAX_SAMPLES = 5_000_000
"""What the samples per cell may add up to: 80 MB of points."""

BRUTE_FORCE_CELLS = 256
"""Up to here ``vq`` assigns points faster than a k-d tree."""


class Location(NamedTuple):
    """Where a pair of descriptors lies in a tessellation."""

    descriptor: tuple[float, float]
    """As measured."""
    unit: tuple[float, float]
    """Scaled and clipped to the unit square."""
    cell: int
    """-1 where a descriptor is not a finite number."""
    clipped: bool
    """Whether a descriptor lay outside the bounds."""


@dataclass(frozen=True, eq=False)
class Tessellation:
    """Cells of a two-dimensional archive. Immutable; arrays are copied and made read-only.

    ``centroids`` has the shape (K, 2) and lies in the unit square. ``lower`` and ``upper``
    bound the raw descriptors, an axis each; where ``log_axes`` is true the axis is scaled by
    its logarithm. Raises ``ValueError`` for anything else.
    """

    centroids: Floats
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    log_axes: tuple[bool, ...] = (False, False)

    def __post_init__(self) -> None:
        centroids = np.array(self.centroids, dtype=np.float64)
        centroids.flags.writeable = False
        lower = tuple(float(bound) for bound in self.lower)
        upper = tuple(float(bound) for bound in self.upper)
        log_axes = tuple(bool(log) for log in self.log_axes)
        if centroids.ndim != 2 or centroids.shape[1] != 2 or len(centroids) == 0:
            raise ValueError(f"centroids must have the shape (K, 2), got {centroids.shape}")
        if not ((centroids >= 0) & (centroids <= 1)).all():
            raise ValueError("centroids must lie in the unit square")
        if not len(lower) == len(upper) == len(log_axes) == 2:
            raise ValueError("lower, upper and log_axes must have one value per axis, two")
        if not all(-math.inf < a < b < math.inf for a, b in zip(lower, upper, strict=True)):
            raise ValueError(f"upper must exceed lower, got {lower} and {upper}")
        if any(log and bound <= 0 for log, bound in zip(log_axes, lower, strict=True)):
            raise ValueError(f"a logarithmic axis needs a lower bound above 0, got {lower}")
        object.__setattr__(self, "centroids", centroids)
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        object.__setattr__(self, "log_axes", log_axes)

    @property
    def cells(self) -> int:
        """K, the number of cells."""
        return len(self.centroids)

    def scale(self, descriptors: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
        """Raw descriptors (..., 2) in the unit square, and whether each was clipped (...).

        NaN stays NaN; an infinite descriptor is clipped like any other outlier.
        """
        raw = np.asarray(descriptors, dtype=np.float64)
        lower, upper = np.array(self.lower), np.array(self.upper)
        clipped = np.asarray(((raw < lower) | (raw > upper)).any(axis=-1))
        inside = np.clip(raw, lower, upper)
        for axis in np.flatnonzero(self.log_axes):
            inside[..., axis] = np.log(inside[..., axis])
            lower[axis], upper[axis] = np.log(lower[axis]), np.log(upper[axis])
        # Clipped again: rounding may leave a scaled bound just outside.
        return np.clip((inside - lower) / (upper - lower), 0.0, 1.0), clipped

    def cell_of(self, unit: ArrayLike) -> NDArray[np.intp]:
        """Cells (N,) of points (N, 2) of the unit square: the nearest centroids."""
        points = np.asarray(unit, dtype=np.float64)
        return np.asarray(self._tree.query(points)[1], dtype=np.intp)

    def locate(self, descriptors: ArrayLike) -> list[Location]:
        """Scale, clip and find the cells of raw descriptors (N, 2), all at once."""
        raw = np.asarray(descriptors, dtype=np.float64).reshape(-1, 2)
        unit, clipped = self.scale(raw)
        finite = np.isfinite(raw).all(axis=1)
        cells = np.full(len(raw), -1, dtype=np.intp)
        if finite.any():
            cells[finite] = self.cell_of(unit[finite])
        rows = zip(raw.tolist(), unit.tolist(), cells.tolist(), clipped.tolist(), strict=True)
        return [Location((r[0], r[1]), (u[0], u[1]), cell, cut) for r, u, cell, cut in rows]

    @cached_property
    def _tree(self) -> Any:
        return cKDTree(self.centroids)


def network_tessellation(
    settings: NetworkArchiveSettings, *, samples: int, rng: np.random.Generator
) -> Tessellation:
    """Cells over (width/depth ratio, FLOPs).

    ``kind = "grid"`` is a square grid. Raises ``ConfigError`` where the number of cells is
    no square.
    """
    if settings.kind == "cvt":
        centroids = cvt(settings.cells, samples=samples, rng=rng)
    else:
        side = math.isqrt(settings.cells)
        if side * side != settings.cells:
            raise ConfigError(
                f"archive.network.cells: a square grid needs a square number, got "
                f"{settings.cells}; {side**2} and {(side + 1) ** 2} are the nearest"
            )
        middles = (np.arange(side) + 0.5) / side
        centroids = _product(middles, middles)
    return Tessellation(centroids, settings.lower, settings.upper, (False, settings.log_flops))


def prompt_tessellation(
    settings: PromptArchiveSettings, *, samples: int, rng: np.random.Generator
) -> Tessellation:
    """Cells over (prompt, temperature).

    ``kind = "cvt"`` is the paper's: the prompt's index is taken for a number, so most cells
    mix prompts. ``kind = "grid"`` gives each of the ``floor(upper[0])`` prompts its own
    column of ``cells // prompts`` niches of temperature (at least one), so its number of
    cells may differ from ``cells``.
    """
    if settings.kind == "cvt":
        centroids = cvt(settings.cells, samples=samples, rng=rng)
        return Tessellation(centroids, settings.lower, settings.upper)
    prompts = max(1, math.floor(settings.upper[0]))
    niches = max(1, settings.cells // prompts)
    # A prompt's column stands where its index is scaled to, not half a column beside it:
    # there it would lie on the border of two cells.
    span = settings.upper[0] - settings.lower[0]
    columns = np.clip((np.arange(prompts) - settings.lower[0]) / span, 0.0, 1.0)
    centroids = _product(columns, (np.arange(niches) + 0.5) / niches)
    return Tessellation(centroids, settings.lower, settings.upper)


def cvt(
    cells: int,
    *,
    samples: int,
    rng: np.random.Generator,
    tolerance: float = 0.02,
    rounds: int = 100,
) -> Floats:
    """Centroids (cells, 2) of a centroidal Voronoi tessellation of the unit square.

    Lloyd's algorithm on uniform points, as Vassiliades et al. (2017) build CVT-MAP-Elites:
    ``samples`` points, or 250 per cell where that is more (up to five million in all). It
    starts from a randomly shifted R2 sequence (Roberts, 2018), whose even spread saves most
    of the rounds that a start from random points needs, and stops once the centroids' root
    mean square move falls below ``tolerance`` of a cell's side, ``1 / sqrt(cells)``. The
    mean squared distance to the centroids is then within a few per cent of a regular grid's.
    """
    points = rng.random((max(samples, min(SAMPLES_PER_CELL * cells, MAX_SAMPLES), cells), 2))
    plastic = 1.324717957244746  # the real root of x**3 = x + 1
    steps = np.arange(1, cells + 1)[:, None] / np.array([plastic, plastic**2])
    centroids: Floats = (rng.random(2) + steps) % 1.0
    for _ in range(rounds):
        moved = _lloyd_step(points, centroids)
        move = math.sqrt(np.square(moved - centroids).sum(axis=1).mean())
        centroids = moved
        if move * math.sqrt(cells) < tolerance:
            break
    return centroids


def _lloyd_step(points: Floats, centroids: Floats) -> Floats:
    """The mean of each centroid's points; a centroid without points stays."""
    nearest: NDArray[Any]
    if len(centroids) <= BRUTE_FORCE_CELLS:
        nearest = vq(points, centroids, check_finite=False)[0]
    else:
        nearest = np.asarray(cKDTree(centroids).query(points)[1])
    count = np.bincount(nearest, minlength=len(centroids))
    sums = [np.bincount(nearest, points[:, axis], len(centroids)) for axis in (0, 1)]
    means = np.stack(sums, axis=1) / np.maximum(count, 1)[:, None]
    return np.where(count[:, None] > 0, means, centroids)


def _product(first: Floats, second: Floats) -> Floats:
    """All pairs (len(first) * len(second), 2), the second running fastest."""
    return np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
