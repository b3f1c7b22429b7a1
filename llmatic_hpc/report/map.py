"""Draw the network archive as characters: its first two axes, a digit for each elite's fitness."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ..config import PROBLEMS, from_tables
from ..store import Record

WIDTH, HEIGHT = 60, 20
EMPTY = "."


def network_map(record: Record, width: int = WIDTH, height: int = HEIGHT) -> str:
    """Return the map of the network archive as plain text.

    A character shows the cell whose centroid is nearest on the first two axes. However small its
    cell is, an elite has the character at its centroid; of several there the fittest.
    """
    archive = record.archives["network"]
    places, is_elite = archive.centroids[:, :2], archive.elite >= 0
    fitness = archive.fitness[is_elite]
    low, high = (fitness.min(), fitness.max()) if len(fitness) else (0.0, 0.0)
    digits = np.full(len(places), EMPTY)
    share = (fitness - low) / (high - low) if high > low else np.ones(len(fitness))
    digits[is_elite] = np.minimum(share * 10, 9).astype(int).astype("U1")

    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    grid = digits[cKDTree(places).query(points)[1]].reshape(height, width)
    occupied = np.flatnonzero(is_elite)
    for cell in occupied[np.argsort(fitness, kind="stable")]:
        column, row = (places[cell] * (width, height)).astype(int)
        grid[min(row, height - 1), min(column, width - 1)] = digits[cell]

    across, upwards = _axes(record)
    edges = [f"{archive.upper[1]:g}", *[""] * (height - 2), f"{archive.lower[1]:g}"]
    margin = max(map(len, edges))
    lines = [
        f"{edge:>{margin}} |{''.join(row)}|"
        for edge, row in zip(edges, grid[::-1].tolist(), strict=True)
    ]
    left, right = f"{archive.lower[0]:g}", f"{archive.upper[0]:g}"
    middle = max(width - len(left) - len(right), 0)
    scale = f"0 to 9: fitness {low:.4f} to {high:.4f}" if high > low else f"9: fitness {high:.4f}"
    legend = f"{scale}; {EMPTY} no elite" if len(fitness) else f"{EMPTY} no elite yet"
    indent = " " * (margin + 2)
    return "\n".join([upwards, *lines, f"{indent}{left}{across:^{middle}}{right}", legend])


def _axes(record: Record) -> list[str]:
    """Name the first two axes with unit and scale: ``FLOPs (FLOP, log)``."""
    archive, config = record.archives["network"], from_tables(record.config, "run.h5")
    known = PROBLEMS.get(config.problem.kind)().descriptors(config.problem)
    units = {one.name: one.unit for one in known if one.unit != "1"}
    scales = archive.scales or ("",) * len(archive.axes)
    names = []
    for label, name, scale in list(zip(archive.axes, archive.names, scales, strict=True))[:2]:
        more = [part for part in (units.get(name, ""), "log" if scale == "log" else "") if part]
        names.append(f"{label} ({', '.join(more)})" if more else label)
    return names
