"""Verify what a record says of trainings under way: losses of their epochs, every attempt."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from .record import Record

RESULT = b"result"
"""Ending of an attempt that brought the candidate's result."""
NEAR = 1e-5
"""Relative difference of a loss to six digits and in full."""


def faults(record: Record) -> Iterator[tuple[str, str]]:
    """Yield where something cannot be and what, candidates first.

    Nothing is asked of what an older record lacks.
    """
    for row in np.flatnonzero(record.candidates["train_curve"] != "").tolist():
        if fault := _curve_fault(record, row):
            yield f"candidate {row}", fault
    yield from _attempts(record)


def losses(text: str) -> list[float]:
    """Read the losses of a training, NaN for an epoch whose loss is not known.

    Raises ``ValueError`` where it is no such list.
    """
    found = json.loads(text)
    if not isinstance(found, list) or not all(
        one is None or (type(one) in (int, float) and math.isfinite(one) and one >= 0)
        for one in found
    ):
        raise ValueError("no list of losses")
    return [math.nan if one is None else float(one) for one in found]


def _curve_fault(record: Record, row: int) -> str:
    table = record.candidates
    try:
        found = losses(table["train_curve"][row])
    except (ValueError, RecursionError) as error:
        return f"train_curve is no list of losses: {error}"
    epochs, last = int(table["epochs"][row]), float(table["train_loss"][row])
    if len(found) > epochs:
        return f"train_curve has {len(found)} epochs, of {epochs} that were trained"
    is_whole = len(found) == epochs and math.isfinite(last) and math.isfinite(found[-1])
    if is_whole and abs(found[-1] - last) > NEAR * max(abs(last), 1e-300):
        return f"train_curve ends at {found[-1]}, train_loss is {last}"
    return ""


def _attempts(record: Record) -> Iterator[tuple[str, str]]:
    table, tried = record.candidates, record.attempts
    counts: Counter[int] = Counter()
    last: dict[int, int] = {}
    for row in range(tried.rows):
        candidate, where = int(tried["candidate"][row]), f"attempts {row}"
        if not 0 <= candidate < record.rows:
            yield where, f"of candidate {candidate}, which there is not"
            continue
        counts[candidate] += 1
        if tried["ending"][row] == RESULT:
            last[candidate] = row
        start, end = float(tried["start"][row]), float(tried["end"][row])
        if end < start:
            yield where, f"ends at {end}, before it began at {start}"
    for candidate, row in last.items():
        if table["status"][candidate] in (b"pending", b"infrastructure"):
            continue  # not told, or spoiled at a later rung
        for name, column in (("node", "node"), ("job", "slurm_job")):
            here, there = tried[name][row].decode(), table[column][candidate].decode()
            if here != there and there:
                yield f"attempts {row}", f"{name} is {here!r}, of the candidate {there!r}"
    for candidate, count in counts.items():
        told = int(table["attempts"][candidate])
        if count > told and table["status"][candidate] != b"pending":
            yield f"candidate {candidate}", f"{count} attempts in the table, {told} counted"
