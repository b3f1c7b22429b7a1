"""The front of a run: networks that no smaller one equals in fitness."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import LLMaticError
from ..store import Record, repeats

_COLUMNS = ("flops", "params", "depth", "width", "ratio", "activation_bytes", "milliseconds")


def front(record: Record, axis: str) -> list[int]:
    """Return the candidates of the front over ``axis``, the smallest first.

    Each is as small as any of its fitness, which is the mean over its trainings, and fitter than
    all that are as small; of equals the first. Raises :class:`LLMaticError` for an unknown axis.
    """
    size, fitness = sizes(record, axis), repeats.scored(record).mean
    known = np.flatnonzero(np.isfinite(fitness) & np.isfinite(size))
    order = known[np.lexsort((known, -fitness[known], size[known]))]
    highest = np.maximum.accumulate(fitness[order])
    best = np.concatenate([[True], highest[1:] > highest[:-1]])[: len(order)]
    return [int(row) for row in order[best]]


def sizes(record: Record, axis: str) -> NDArray[np.float64]:
    """Return a column of sizes (N,), NaN where not measured."""
    table, names = record.candidates, record.archives["network"].names
    if axis in names:
        return np.asarray(table["descriptors"][:, names.index(axis)], np.float64)
    if axis not in _COLUMNS:
        known = ", ".join(sorted({*_COLUMNS, *names}))
        raise LLMaticError(f"--over {axis}: there is no such axis; there are: {known}")
    found = np.asarray(table[axis], np.float64)
    return np.where(found > 0, found, np.nan)


def file_of(candidate: int) -> str:
    """Return the name of a candidate's file, which can be imported."""
    return f"candidate_{candidate:05d}.py"


def contents(record: Record, rows: list[int], axis: str) -> str:
    """Return a table of contents of the front's files, in Markdown."""
    fitness, tested = repeats.scored(record).mean, repeats.scored(record, "test_accuracy").mean
    size, table = sizes(record, axis), record.candidates
    more = [] if axis in ("flops", "params") else [axis]
    lines = [
        f"| [{file_of(row)}]({file_of(row)}) | {fitness[row]:.4f} | {_number(tested[row])} | "
        f"{table['flops'][row]:,.0f} | {int(table['params'][row]):,} | "
        + "".join(f"{size[row]:.6g} | " for _ in more)
        + f"{int(table['generation'][row])} | {table['operator'][row].decode()} |"
        for row in rows
    ]
    heads = ["file", "fitness", "test", "FLOPs", "parameters", *more, "generation", "operator"]
    rule = ["---", *["---:"] * (len(heads) - 2), "---"]
    return "\n".join(
        [
            f"# Front of run {record.run_id}: fitness over {axis}",
            "",
            f"The {len(rows)} of its {record.rows} candidates that no network of their size or "
            "smaller equals, the smallest first. Fitness and test accuracy are shares, means over "
            "the trainings of a network; where they differ, the test accuracy chose nothing.",
            "",
            f"| {' | '.join(heads)} |",
            f"| {' | '.join(rule)} |",
            *lines,
            "",
        ]
    )


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else ""
