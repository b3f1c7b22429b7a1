"""Signals that cost no training, and how far the fitness follows them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy.stats import spearmanr

from ..store import Record

NAMES = ("params", "flops", "naswot", "synflow")
"""Columns of the record; the latter two where ``search.proxies`` asked for them."""
FEWEST = 5
"""Scored candidates without which nothing is said of them, together or of a niche."""


def signals(record: Record) -> list[dict[str, Any]]:
    """Return how each signal's order agrees with that of the fitness.

    ``rho`` is Spearman's rank correlation over all candidates with a score of their own that have
    the signal, ``count`` of them; ``niches`` is how many niches hold at least :data:`FEWEST` of
    those, ``rho_in_niche`` their mean correlation. None: too few, or all alike.
    """
    table = record.candidates
    scored = (table["status"] == b"scored") & ~record.are_repeats
    found = []
    for name in NAMES:
        values = table[name].astype(float)
        rows = scored & np.isfinite(values) & ((values >= 0) | (name not in ("params", "flops")))
        cells = table["network_cell"][rows]
        by_niche = [
            _rho(values[rows][cells == cell], table["fitness"][rows][cells == cell])
            for cell in np.unique(cells[cells >= 0])
        ]
        known = [rho for rho in by_niche if rho is not None]
        found.append(
            {
                "signal": name,
                "count": int(rows.sum()),
                "rho": _rho(values[rows], table["fitness"][rows]),
                "niches": len(known),
                "rho_in_niche": math.fsum(known) / len(known) if known else None,
            }
        )
    return found


def render(values: Iterable[dict[str, Any]]) -> Table:
    """Lay out what :func:`signals` returned for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("signal")
    for name in ("candidates", "correlation", "niches", "within niches"):
        table.add_column(name, justify="right")
    for one in values:
        rhos = ("unknown" if rho is None else f"{rho:+.2f}"
                for rho in (one["rho"], one["rho_in_niche"]))  # fmt: skip
        overall, within = rhos
        table.add_row(one["signal"], str(one["count"]), overall, str(one["niches"]), within)
    return table


def _rho(values: NDArray[np.float64], fitness: NDArray[np.float64]) -> float | None:
    if len(values) < FEWEST or len(np.unique(values)) < 2 or len(np.unique(fitness)) < 2:
        return None
    return float(spearmanr(values, fitness).statistic)
