"""Draw the network archive as characters: its first two axes, a digit for each elite's fitness."""

from __future__ import annotations

import textwrap

import numpy as np
from scipy.spatial import cKDTree

from ..config import PROBLEMS, from_tables
from ..store import Record

WIDTH, HEIGHT = 60, 20
EMPTY = "."
LEAST_WIDTH, LEAST_HEIGHT = 16, 5
"""A smaller map shows nothing."""
AROUND = 3
"""Lines of a map beside its rows: the axes' names and the legend, which may take one more."""


def fitting_map(record: Record, columns: int, lines: int = HEIGHT + AROUND + 1) -> str:
    """Return :func:`network_map` as large as ``columns`` and ``lines`` allow; empty: they do not.

    It is never larger than by default.
    """
    width, height = min(WIDTH, columns - _margin(record) - 3), min(HEIGHT, lines - AROUND - 1)
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return ""
    axis, *rows, legend = network_map(record, width, height).splitlines()
    axis = textwrap.shorten(axis, columns, placeholder="...")
    return "\n".join([axis, *rows, *textwrap.wrap(legend, columns)])


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
    margin = _margin(record)
    edges = [f"{archive.upper[1]:g}", *[""] * (height - 2), f"{archive.lower[1]:g}"]
    lines = [
        f"{edge:>{margin}} |{''.join(row)}|"
        for edge, row in zip(edges, grid[::-1].tolist(), strict=True)
    ]
    left, right = f"{archive.lower[0]:g}", f"{archive.upper[0]:g}"
    middle = max(width - len(left) - len(right), 1)
    if len(across) + 2 > middle:  # no room between the bounds
        upwards, across = f"{upwards} over {across}", ""
    scale = f"0 to 9: fitness {low:.4f} to {high:.4f}" if high > low else f"9: fitness {high:.4f}"
    legend = f"{scale}; {EMPTY} no elite" if len(fitness) else f"{EMPTY} no elite yet"
    indent = " " * (margin + 2)
    return "\n".join(
        [
            upwards,
            *lines,
            f"{indent}{left}{across:^{middle}}{right}",
            legend,
        ]
    )


def _margin(record: Record) -> int:
    """Return the width of the longer bound of the axis that points upwards."""
    archive = record.archives["network"]
    return max(len(f"{bound:g}") for bound in (archive.lower[1], archive.upper[1]))


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
