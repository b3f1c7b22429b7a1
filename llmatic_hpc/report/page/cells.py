"""Cells of an archive as polygons: the Voronoi regions of centroids, cut off at the unit square."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Voronoi

Floats = NDArray[np.float64]

EDGE = 1e-6
"""Least distance of a centroid from the border, where its mirror image would be itself."""
SAME = 9
"""Decimals by which two centroids are told apart."""


def stacks(centroids: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the distinct places (P, 2) of centroids (K, D) on the first two axes, and each
    cell's place (K,). Cells that differ on further axes alone share one.
    """
    flat = np.round(centroids[:, :2], SAME)
    places, of_cell = np.unique(flat, axis=0, return_inverse=True)
    return places, of_cell.reshape(-1).astype(np.int64)


def polygons(places: Floats) -> list[Floats]:
    """Return the corners (C, 2), in order, of the region of each of the distinct ``places`` (P, 2).

    Each place is mirrored in the four sides, so that the sides are borders of its region.
    """
    inside = np.clip(places, EDGE, 1.0 - EDGE)
    images = [inside]
    for axis in (0, 1):
        for side in (0.0, 1.0):
            mirrored = inside.copy()
            mirrored[:, axis] = 2.0 * side - mirrored[:, axis]
            images.append(mirrored)
    diagram = Voronoi(np.concatenate(images))
    found = []
    for place in range(len(inside)):
        corners = diagram.vertices[diagram.regions[diagram.point_region[place]]]
        around = corners - corners.mean(axis=0)  # a region is convex
        order = np.argsort(np.arctan2(around[:, 1], around[:, 0]))
        found.append(np.clip(corners[order], 0.0, 1.0))
    return found
