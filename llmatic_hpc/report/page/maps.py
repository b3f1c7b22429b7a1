"""Both archives for the page: cells as polygons, axes in raw units, and every change in order."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...config import PROBLEMS, from_tables
from ...errors import ConfigError
from ...store import Record
from . import cells
from .changes import Change, changes
from .plain import number, numbers

CORNERS = 5
"""Decimals of a corner in the unit square."""
MEASURES = {"network": "fitness", "prompt": "collective fitness of the prompt"}
"""Names of the value by which each archive chooses its elites."""


def maps(record: Record) -> dict[str, Any]:
    """Return the archives by name, as :func:`_map` has them."""
    return {name: _map(record, name, moved) for name, moved in changes(record).items()}


def _map(record: Record, name: str, moved: list[Change]) -> dict[str, Any]:
    """Return axes, cells, changes over the generations, and the archive at the end.

    ``events`` are (generation, cell, candidate, value), in the order in which they happened.
    ``offers`` counts the candidates that a cell was offered. With more than two axes the first two
    are shown; cells that differ in others alone share a polygon.
    """
    archive, table = record.archives[name], record.candidates
    places, of_cell = cells.stacks(archive.centroids)
    shapes = cells.polygons(places)
    offered = table[f"{name}_cell"][table[f"{name}_cell"] >= 0]
    return {
        "axes": _axes(record, name),
        "measure": MEASURES[name],
        "shapes": [np.round(shape, CORNERS).tolist() for shape in shapes],
        "places": np.round(places, CORNERS).tolist(),
        "place_of_cell": of_cell.tolist(),
        "events": [[*change[:3], number(change.value)] for change in moved],
        "offers": np.bincount(offered, minlength=len(archive.elite)).tolist(),
        "elite": archive.elite.tolist(),
        "fitness": numbers(archive.fitness),
        "curiosity": numbers(archive.curiosity),
    }


def _axes(record: Record, name: str) -> list[dict[str, Any]]:
    archive = record.archives[name]
    units = _units(record) if name == "network" else {}
    scales = archive.scales or ("linear",) * len(archive.axes)
    return [
        {
            "name": key,
            "label": label,
            "unit": units.get(key, ""),
            "log": scale == "log",
            "lower": float(lower),
            "upper": float(upper),
        }
        for key, label, scale, lower, upper in zip(
            archive.names, archive.axes, scales, archive.lower, archive.upper, strict=True
        )
    ]


def _units(record: Record) -> dict[str, str]:
    """Return the units of measured values, as far as their problem is installed here."""
    try:
        settings = from_tables(record.config, "run.h5").problem
        known = PROBLEMS.get(settings.kind)().descriptors(settings)
    except ConfigError:
        return {}
    return {one.name: one.unit for one in known if one.unit != "1"}
