"""Candidates earn their training: from rung to rung, or in full at the end of a run.

Who goes on is decided in :mod:`llmatic_hpc.store.promotion`; here it is carried out. Results at a
rung are kept like those of a training in full, so a run that was killed decides the same again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..problems.evaluator import Evaluated
from ..search import Search
from ..store import Record, promotion, rows

Evaluate = Callable[[Sequence[int], int], Evaluated]
"""Trains candidates up to a rung, from 0."""

_OF_A_TRAINING = (
    "status", "failure", "epochs", "device", "slurm_job", "node", "train_curve",
)  # fmt: skip
"""Columns that say of a training at a rung below the last what they say of one in full."""
_ADDED_UP = ("train_seconds", "queue_seconds", "attempts")


def climb(
    record: Record, search: Search, due: Sequence[int], evaluate: Evaluate, *, anew: bool
) -> Evaluated:
    """Train the candidates ``due`` to the first rung, and to the next those that may go on.

    Repeats are trained in full at once, as what they repeat was, unless that is left to the end.
    ``anew``: each rung is a training of its own.
    """
    found: dict[int, dict[str, Any]] = {row: {} for row in due}
    lost: Counter[str] = Counter()
    repeated = record.are_repeats & (not promotion.is_deferred(record))
    going = [row for row in due if not repeated[row]]
    for rung in range(len(record.rungs)):
        if rung + 1 == len(record.rungs):
            going = sorted({*going, *(row for row in due if repeated[row])})
        if not going:
            continue
        evaluated = evaluate(going, rung)
        lost.update(evaluated.lost)
        scores = {}
        for row, values in evaluated.rows.items():
            found[row] = _after(record.rungs, rung, found[row], values, anew=anew)
            if values["status"] == "scored":
                scores[row] = float(values["fitness"])
        if rung + 1 == len(record.rungs):
            break
        why = promotion.stopped(record, search, scores, rung)
        for row, reason in why.items():
            found[row] |= {"status": "stopped", "failure": f"stopped {reason}"}
        going = [row for row in going if row in scores and row not in why]
    return Evaluated(found, lost)


def finish(record: Record, search: Search, evaluate: Evaluate) -> list[int]:
    """Train in full the elites that stand at a rung below; return those that the machine spoiled.

    One that fails makes room for the next best of its niche, which is trained, too.
    """
    table, spoiled, last = record.candidates, set[int](), len(record.rungs) - 1
    while due := [r for r in promotion.standing(record, search).due() if r not in spoiled]:
        for row, values in evaluate(due, last).rows.items():
            if values["status"] == "infrastructure":
                spoiled.add(row)
                continue
            before = {name: table[name][row] for name in ("rung_scores", "epochs", *_ADDED_UP)}
            record.update(row, _after(record.rungs, last, before, values, anew=True))
            record.update(row, {"promoted": record.committed_generations})
            for copy in (table["duplicate_of"] == row).nonzero()[0].tolist():
                record.update(copy, rows.duplicate(record, row))
    return sorted(spoiled)


def _after(
    rungs: Sequence[int],
    rung: int,
    before: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    anew: bool,
) -> dict[str, Any]:
    """Return the columns of a candidate after a rung: those ``before`` and its new ``values``.

    ``anew``: its training began from the start, so that its epochs come on top.
    """
    is_last, scores = (
        rung + 1 == len(rungs),
        list(before.get("rung_scores", [math.nan] * len(rungs))),
    )
    epochs = {"scored": values["epochs"], "infrastructure": 0}.get(values["status"], rungs[rung])
    if values["status"] == "scored":
        scores[rung] = values["fitness"]
    spent = int(before.get("epochs", 0))
    return {
        **{name: values[name] for name in values if is_last or name in _OF_A_TRAINING},
        **{name: before.get(name, 0) + values[name] for name in _ADDED_UP if name in values},
        "epochs": spent + epochs if anew else max(spent, epochs),
        "rung_scores": tuple(scores),
    }
