"""Cells of an archive: centroids in the unit cube, and how descriptors get there.

Descriptors, D of them, are scaled to the unit cube by the archive's bounds and clipped to it; a
cell is the Voronoi region of its centroid. Centroids are stored with a run and never computed
again when it is continued.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.vq import vq
from scipy.spatial import cKDTree

from ..config import NetworkArchiveSettings, PromptArchiveSettings
from ..errors import ConfigError
from ..types import Descriptor

Floats = NDArray[np.float64]

SAMPLES_PER_CELL = 250
"""Fewer points per cell leave visibly uneven cells."""

MAX_SAMPLES = 5_000_000
"""Most samples in all: 80 MB of points."""

MOST_KNOWN = 4096
"""Locations that are kept; with more, all are forgotten."""

BRUTE_FORCE_CELLS = 256
"""Up to here ``vq`` assigns points faster than a k-d tree."""


class Location(NamedTuple):
    """Place of a network's descriptors in a tessellation."""

    descriptor: tuple[float, ...]
    """As measured, one per axis."""
    unit: tuple[float, ...]
    """Scaled and clipped to the unit cube."""
    cell: int
    """-1 where a descriptor is not a finite number."""
    clipped: bool
    """True where a descriptor lay outside the bounds."""


@dataclass(frozen=True, eq=False)
class Tessellation:
    """Cells of an archive. Immutable; arrays are copied and made read-only.

    ``centroids`` has the shape (K, D) and lies in the unit cube. ``lower`` and ``upper``
    bound the raw descriptors, an axis each; where ``log_axes`` is true the axis is scaled by
    its logarithm (empty: none is). Raises ``ValueError`` for anything else.
    """

    centroids: Floats
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    log_axes: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        centroids = np.array(self.centroids, dtype=np.float64)
        centroids.flags.writeable = False
        lower = tuple(float(bound) for bound in self.lower)
        upper = tuple(float(bound) for bound in self.upper)
        log_axes = tuple(bool(log) for log in self.log_axes) or (False,) * len(lower)
        if centroids.ndim != 2 or 0 in centroids.shape:
            raise ValueError(f"centroids must have the shape (K, D), got {centroids.shape}")
        if not ((centroids >= 0) & (centroids <= 1)).all():
            raise ValueError("centroids must lie in the unit cube")
        axes = centroids.shape[1]
        if not len(lower) == len(upper) == len(log_axes) == axes:
            raise ValueError(f"lower, upper and log_axes must have one value per axis, {axes}")
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

    @property
    def axes(self) -> int:
        """D, the number of descriptors."""
        return int(self.centroids.shape[1])

    def scale(self, descriptors: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
        """Scale raw descriptors (..., D) to the unit cube; also say which were clipped (...).

        NaN stays NaN; an infinite descriptor is clipped like any other outlier.
        """
        raw = np.asarray(descriptors, dtype=np.float64)
        lower, upper, logarithmic, low, span = self._bounds
        inside = np.minimum(np.maximum(raw, lower), upper)
        clipped = np.asarray(((inside != raw) & ~np.isnan(raw)).any(axis=-1))
        for axis in logarithmic:
            inside[..., axis] = np.log(inside[..., axis])
        # Clipped again: rounding may leave a scaled bound just outside.
        return np.minimum(np.maximum((inside - low) / span, 0.0), 1.0), clipped

    def raw(self, unit: Sequence[float]) -> tuple[float, ...]:
        """Return the raw descriptors (D,) of a point of the unit cube (D,)."""
        _, _, logarithmic, low, span = self._bounds
        values = low + span * np.asarray(unit, dtype=np.float64)
        values[logarithmic] = np.exp(values[logarithmic])
        return tuple(values.tolist())

    def cell_of(self, unit: ArrayLike) -> NDArray[np.intp]:
        """Find the cells (N,) of points (N, D) of the unit cube: the nearest centroids."""
        points = np.asarray(unit, dtype=np.float64)
        return np.asarray(self._tree.query(points)[1], dtype=np.intp)

    def locate(self, descriptors: ArrayLike) -> list[Location]:
        """Scale, clip and find the cells of raw descriptors (N, D), all at once."""
        points = [tuple(point) for point in np.asarray(descriptors, dtype=np.float64).tolist()]
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        if new := [point for point in points if point not in self._known]:
            self._known.update(zip(new, self._located(new), strict=True))
        return [self._known[point] for point in points]

    def _located(self, points: Sequence[tuple[float, ...]]) -> list[Location]:
        raw = np.array(points, dtype=np.float64)
        unit, clipped = self.scale(raw)
        if (finite := np.asarray(np.isfinite(raw).all(axis=1))).all():
            cells = self.cell_of(unit)
        else:  # the tree takes no NaN: a point without a cell goes along as the origin
            cells = np.where(finite, self.cell_of(np.where(finite[:, None], unit, 0.0)), -1)
        units = map(tuple, unit.tolist())
        return list(map(Location, points, units, cells.tolist(), clipped.tolist()))

    @cached_property
    def _bounds(self) -> tuple[Floats, Floats, list[int], Floats, Floats]:
        """Bounds, which axes are logarithmic, and the scaled axes' beginnings and lengths."""
        lower, upper = np.array(self.lower), np.array(self.upper)
        logarithmic = [axis for axis, log in enumerate(self.log_axes) if log]
        low, high = lower.copy(), upper.copy()
        low[logarithmic], high[logarithmic] = np.log(low[logarithmic]), np.log(high[logarithmic])
        return lower, upper, logarithmic, low, high - low

    @cached_property
    def _known(self) -> dict[tuple[float, ...], Location]:
        """Points that were located before: in a small space the same ones come again and again."""
        return {}

    @cached_property
    def _tree(self) -> Any:
        return cKDTree(self.centroids)


def network_tessellation(
    settings: NetworkArchiveSettings,
    descriptors: Sequence[Descriptor],
    *,
    samples: int,
    rng: np.random.Generator,
) -> Tessellation:
    """Make the cells of the network archive over ``descriptors``, with the bounds that they have.

    ``kind = "grid"`` is a grid of equal sides. Raises ``ConfigError`` where the number of cells
    is no square (cube, ... for more axes).
    """
    axes = len(descriptors)
    if settings.kind == "cvt":
        centroids = cvt(settings.cells, axes=axes, samples=samples, rng=rng)
    else:
        side = round(settings.cells ** (1 / axes))
        if side**axes != settings.cells:
            side = math.floor(settings.cells ** (1 / axes))
            power = {2: "square", 3: "cube"}.get(axes, f"{axes}th power")
            raise ConfigError(
                f"archive.network.cells: a grid over {axes} axes needs a {power}, got "
                f"{settings.cells}; {side**axes} and {(side + 1) ** axes} are the nearest"
            )
        centroids = _product(*[(np.arange(side) + 0.5) / side] * axes)
    return Tessellation(
        centroids,
        tuple(one.lower for one in descriptors),
        tuple(one.upper for one in descriptors),
        tuple(one.scale == "log" for one in descriptors),
    )


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
    axes: int = 2,
    tolerance: float = 0.02,
    rounds: int = 100,
) -> Floats:
    """Compute the centroids (cells, axes) of a centroidal Voronoi tessellation of the unit cube.

    Lloyd's algorithm on uniform points, as Vassiliades et al. (2017) build CVT-MAP-Elites:
    ``samples`` points, or 250 per cell where that is more (up to five million in all). It
    starts from a randomly shifted R sequence (Roberts, 2018), whose even spread saves most
    of the rounds that a start from random points needs, and stops once the centroids' root
    mean square move falls below ``tolerance`` of a cell's side, ``cells ** (-1 / axes)``. The
    mean squared distance to the centroids is then within a few per cent of a regular grid's.
    """
    points = rng.random((max(samples, min(SAMPLES_PER_CELL * cells, MAX_SAMPLES), cells), axes))
    roots = [_harmonious(axes) ** power for power in range(1, axes + 1)]
    steps = np.arange(1, cells + 1)[:, None] / np.array(roots)
    centroids: Floats = (rng.random(axes) + steps) % 1.0
    for _ in range(rounds):
        moved = _lloyd_step(points, centroids)
        move = math.sqrt(np.square(moved - centroids).sum(axis=1).mean())
        centroids = moved
        if move * cells ** (1 / axes) < tolerance:
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
    sums = [np.bincount(nearest, column, len(centroids)) for column in points.T]
    means = np.stack(sums, axis=1) / np.maximum(count, 1)[:, None]
    return np.where(count[:, None] > 0, means, centroids)


def _harmonious(axes: int) -> float:
    """Return the real root of ``x ** (axes + 1) = x + 1`` above 1: for two axes 1.3247..."""
    root = 2.0
    for _ in range(64):  # a contraction; it has long converged
        root = (1.0 + root) ** (1.0 / (axes + 1))
    return root


def _product(*sides: Floats) -> Floats:
    """Return all combinations (product of lengths, D) of the sides, the last running fastest."""
    return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, len(sides))
