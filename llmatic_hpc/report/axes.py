"""The axes of a run's map: what was reached and clipped, and where an axis tells nothing apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..search import Tessellation
from ..store import Record

BANDS = 10
COLLAPSED = 0.9
"""An axis has collapsed where a larger share of the scored candidates lies in one band of it."""
ENOUGH = 10
"""Scored candidates without which nothing is said of an axis."""


def axes(record: Record) -> dict[str, Any]:
    """Return cells that anything measured lies in, how many candidates were clipped, and the axes
    that have collapsed, with the setting to change. A record of 0.1 says too little of its axes.
    """
    state, table = record.archives["network"], record.candidates
    found: dict[str, Any] = {
        "network_reached": None,
        "network_clipped": int(table["network_clipped"][~record.are_repeats].sum()),
        "network_collapsed": [],
    }
    if not state.scales:
        return found
    logarithmic = tuple(scale == "log" for scale in state.scales)
    cells = Tessellation(state.centroids, tuple(state.lower), tuple(state.upper), logarithmic)
    raw = table["descriptors"]
    measured = np.isfinite(raw).all(axis=1)
    unit, _ = cells.scale(raw)
    found["network_reached"] = len(np.unique(cells.cell_of(unit[measured])))
    scored = measured & (table["status"] == b"scored") & ~record.are_repeats
    if scored.sum() < ENOUGH:
        return found
    for axis, name in enumerate(state.names):
        counts, edges = np.histogram(unit[scored, axis], BANDS, (0.0, 1.0))
        band = int(counts.argmax())
        if (share := float(counts[band] / scored.sum())) <= COLLAPSED:
            continue
        values, lower, upper = raw[scored, axis], state.lower[axis], state.upper[axis]
        if (values < lower).mean() > 0.5:
            setting = "lower"
        elif (values > upper).mean() > 0.5:
            setting = "upper"
        else:
            setting = "axes" if logarithmic[axis] else "scale"
        ends = edges[band : band + 2]
        if logarithmic[axis]:
            ends = lower * (upper / lower) ** ends
        else:
            ends = lower + (upper - lower) * ends
        found["network_collapsed"].append(
            {"axis": name, "share": share, "from": float(ends[0]), "to": float(ends[1]),
             "setting": f"archive.network.{setting}"}
        )  # fmt: skip
    return found


def warnings(values: dict[str, Any]) -> list[str]:
    """Say of what :func:`axes` returned which axes have collapsed, a line each."""
    return [
        f"{one['share']:.0%} of the scored candidates lie in a tenth of the axis {one['axis']}, "
        f"{one['from']:.3g} to {one['to']:.3g}: choose another {one['setting']} in a new run"
        for one in values["network_collapsed"]
    ]
