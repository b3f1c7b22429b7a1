"""Progress of runs: best fitness, QD score and coverage against what was spent until then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...store import Record
from ...store.hours import part
from ..compare import comparison_of
from ..methods import Run, methods
from .changes import changes, in_order, scored
from .plain import numbers

Floats = NDArray[np.float64]

POINTS = 240
"""Places at which a curve is told."""
SPENT = ("candidates", "hours", "wall")
REACHED = ("best", "qd_score", "coverage")


def anytime(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return a curve for each method, cost and quality: mean over its runs, least and most.

    The method of the first run comes first; a curve ends where the first of its runs does.
    """
    kinds = dict.fromkeys(run.settings["problem.kind"] for run in runs)
    found = [
        method
        for kind in kinds
        for method in methods(
            [run for run in runs if run.settings["problem.kind"] == kind], comparison_of(kind)
        )
    ]
    first = runs[0].record.run_id
    found.sort(key=lambda method: all(run.record.run_id != first for run in method.runs))
    return [
        {
            "name": method.title.removesuffix(" *"),
            "note": method.note,
            "runs": [str(run.path) for run in method.runs],
            "seeds": [run.seed for run in method.runs],
            "curves": _curves([progress(run.record) for run in method.runs]),
        }
        for method in found
    ]


def progress(record: Record) -> dict[str, Floats]:
    """Return what was spent and reached after each candidate that was told, in that order.

    ``hours`` are those of training, ``wall`` those in which generations were under way, pauses
    between them left out. ``qd_score`` is the sum of the elites' fitness, ``coverage`` their share
    of the cells.
    """
    table, history = record.candidates, record.history
    rows = in_order(record, table["told"] >= 0)
    seconds = np.where(table["duplicate_of"][rows] < 0, table["train_seconds"][rows], 0.0)
    took = history["finished"] - history["started"]
    wall = np.cumsum(np.nan_to_num(took)) if len(took) else took
    best, score, filled = _archive(record, rows)
    if not record.are_repeats.any():  # also of a variant whose best is no elite
        best = np.fmax.accumulate(scored(record)[rows]) if len(rows) else best
    return {
        "candidates": np.arange(1.0, len(rows) + 1),
        "hours": np.cumsum(np.nan_to_num(seconds)) * part(record) / 3600,
        "wall": wall[table["told"][rows]] / 3600 if len(rows) else np.empty(0),
        "best": best,
        "qd_score": score,
        "coverage": filled / max(1, len(record.archives["network"].elite)),
    }


def _archive(record: Record, rows: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Return the elites' best fitness, its sum and their number after each of ``rows``.

    What is known by generation only counts from the last candidate of it on.
    """
    told = record.candidates["told"][rows]
    is_exact = not (record.are_repeats.any() or record.evolves)  # as in changes()
    place = {row: at for at, row in enumerate(rows.tolist())}
    living, total, best = dict[int, float](), 0.0, -np.inf
    marks: list[tuple[int, float, float, int]] = []
    for change in changes(record)["network"]:
        total += change.value - living.get(change.cell, 0.0)
        living[change.cell] = change.value
        best = max(living.values()) if not is_exact else max(best, change.value)
        last = int(np.searchsorted(told, change.generation, side="right")) - 1
        marks.append((place[change.candidate] if is_exact else last, best, total, len(living)))
    found = np.full((3, len(rows)), np.nan)
    found[1:, :1] = 0.0
    for at, *values in marks:
        found[:, at] = values
    known = np.maximum.accumulate(np.where(np.isfinite(found[0]), np.arange(len(rows)), 0))
    best_so_far, sums, counts = found[:, known] if len(rows) else found
    return best_so_far, sums, counts


def _curves(runs: Sequence[dict[str, Floats]]) -> dict[str, Any]:
    runs = [run for run in runs if len(run["candidates"])]
    if not runs:
        return {}
    return {spent: _against(runs, spent) for spent in SPENT}


def _against(runs: Sequence[dict[str, Floats]], spent: str) -> dict[str, Any]:
    end = min(float(run[spent][-1]) for run in runs)
    begin = max(float(run[spent][0]) for run in runs)
    if not end > 0.0:
        return {}
    grid = np.linspace(min(begin, end), end, POINTS)
    if spent == "candidates":
        grid = np.unique(np.rint(grid))
    found: dict[str, Any] = {"x": numbers(grid)}
    for name in REACHED:
        at = np.stack([_steps(run[spent], run[name], grid) for run in runs])
        known = np.isfinite(at).all(axis=0)
        inside = np.where(known, at, 0.0)
        found[name] = {
            key: numbers(np.where(known, value, np.nan))
            for key, value in (
                ("mean", inside.mean(axis=0)), ("low", inside.min(axis=0)),
                ("high", inside.max(axis=0)),
            )
        }  # fmt: skip
    return found


def _steps(spent: Floats, reached: Floats, grid: Floats) -> Floats:
    """Return what was reached when so much as in ``grid`` was spent; NaN before the first."""
    place = np.searchsorted(spent, grid, side="right") - 1
    return np.where(place >= 0, reached[np.maximum(place, 0)], np.nan)
