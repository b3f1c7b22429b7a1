"""From what flows through a generation to rows of the candidate table. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..config import accelerators
from ..types import PENDING, Completion, Examined, Proposal, Result, Screened
from .record import Record

LONGEST_COMPLETION = 200_000
"""Characters of a completion that the record keeps; a longer one is no network."""

SHARED = (b"scored", b"stopped", b"invalid", b"diverged", b"too_large", b"too_slow", b"pending")
"""Statuses that a duplicate takes over: facts about the network, or that it has to wait."""


def candidate(
    proposal: Proposal,
    completion: Completion,
    missing: str,
    found: Examined,
    originals: Originals,
    axes: Sequence[str],
) -> dict[str, Any]:
    """Make a new row, a duplicate where one of ``originals`` is the same network.

    ``missing``: why no source could be read from the completion; ``axes``: names of the measured
    values that are the axes of the network archive.
    """
    verdict = found.screened
    key = verdict.canonical_sha256
    status, failure = verdict.status, verdict.failure
    if not found.source:
        status, failure = "invalid", completion.failure or missing
    original = originals.find(key) if status == PENDING else -1
    text = "" if completion.text == found.source else completion.text
    sizes, values = vars(verdict.descriptors) if verdict.descriptors else {}, measured(verdict)
    return {
        **proposal_columns(proposal),
        **sizes,
        **{name: values[name] for name in ("naswot", "synflow") if name in values},
        "descriptors": tuple(float(values.get(name, math.nan)) for name in axes),
        "completion": text[:LONGEST_COMPLETION],
        "form": completion.form,
        "tokens": completion.tokens,
        "generate_seconds": completion.seconds,
        "written": written(found),
        "repairs": json.dumps([asdict(r) for r in found.repairs]) if found.repairs else "",
        "source": found.source,
        "source_sha256": hashlib.sha256(found.source.encode("utf-8")).hexdigest(),
        "canonical_sha256": key,
        "architecture": verdict.architecture,
        "duplicate_of": original,
        "status": status,
        "failure": failure,
    }


def measured(verdict: Screened) -> dict[str, float]:
    """Return what was measured of a network, by name."""
    sizes = vars(verdict.descriptors) if verdict.descriptors else {}
    return {**sizes, **verdict.measured}


def proposal_columns(proposal: Proposal) -> dict[str, Any]:
    """A proposal by the columns that hold it."""
    values = dict(vars(proposal))
    for name in ("candidate", "sampling_seed", "training_seed"):
        del values[name]
    return {**values, "seed": proposal.training_seed, "sampling_seed": proposal.sampling_seed}


def written(found: Examined) -> str:
    """Say how far a source got as it was written: nothing, ``parsed``, ``built`` or ``fits``."""
    if not found.source:
        return ""
    if found.written.status == PENDING:
        return "fits"
    return "built" if found.written.built else "parsed"


class Originals:
    """First candidates of each canonical form that have a verdict to be reused.

    Or will have one: those still out count, those that the machine spoiled do not.
    ``start_phase``: only candidates of which :func:`is_of_start` says so, where those are not
    trained; None: all.
    """

    def __init__(self, record: Record, start_phase: bool | None) -> None:
        self._record, self._start_phase = record, start_phase
        self._fresh: dict[str, int] = {}

    def find(self, key: str) -> int:
        """Find who was first with the digest ``key``; -1: nobody yet."""
        earlier = next(filter(self._counts, self._record.rows_with(key)), None)
        return self._fresh.get(key, -1) if earlier is None else earlier

    def add(self, key: str, number: int) -> None:
        """Note a new candidate that is the first with its digest."""
        self._fresh[key] = number

    def _counts(self, row: int) -> bool:
        table = self._record.candidates
        if table["duplicate_of"][row] >= 0 or table["status"][row] not in SHARED:
            return False
        if self._start_phase is None:
            return True
        return is_of_start(self._record, row) == self._start_phase


def is_of_start(record: Record, candidate: int) -> bool:
    """Return whether a candidate is a seed or descends from the initial network by mutation."""
    table = record.candidates
    initial = (table["parents"][candidate] < 0).all()
    return bool(table["operator"][candidate] in (b"mutation", b"seed") and initial)


def queries(record: Record) -> int:
    """Count the networks with a score of their own: what ``search.queries`` is about."""
    scored = record.candidates["status"] == b"scored"
    return int(np.count_nonzero(scored & ~record.are_repeats))


def result(found: Result) -> dict[str, Any]:
    """Return what a result says, by the columns that hold it."""
    losses = [one if math.isfinite(one) else None for one in found.outcome.train_curve]
    return {
        **vars(found.outcome),
        "train_curve": json.dumps(losses) if losses else "",
        "slurm_job": found.slurm_job,
        "node": found.node,
    }


def with_late(record: Record, row: int, found: Mapping[str, Any]) -> dict[str, Any]:
    """Complete what a result says by the axes that only an evaluation can measure."""
    if not any(name in found for name in record.axes):
        return dict(found)
    known = record.candidates["descriptors"][row].tolist()
    measured = [found.get(name, value) for name, value in zip(record.axes, known, strict=True)]
    return {**found, "descriptors": tuple(measured)}


def duplicate(record: Record, original: int) -> dict[str, Any]:
    """Return what a duplicate takes over from the candidate that was first."""
    table = record.candidates
    status = record.status(original)
    if status == "infrastructure":
        failure = f"a duplicate of candidate {original}, which the machine spoiled"
        return {"status": status, "failure": failure}
    copied = ("fitness", "valid_accuracy", "test_accuracy", "rank", "train_loss", "epochs",
              "milliseconds", "rung_scores")  # fmt: skip
    why = f"a duplicate of candidate {original} ({status}): {table['failure'][original]}"
    return {
        "status": "duplicate",
        "failure": "" if status == "scored" else why,
        **{name: table[name][original] for name in copied},
    }


def median_train_seconds(record: Record, rung: int = 0) -> float:
    """Return the median training time of the last generation that trained any; 0 without one.

    With rungs it is that of the epochs between the ``rung`` and the one below.
    """
    seconds, generation = record.candidates["train_seconds"], record.candidates["generation"]
    epochs = record.candidates["epochs"]
    trained = np.isfinite(seconds) & (epochs > 0)
    if not trained.any():
        return 0.0
    last = generation[trained][-1]
    if record.rungs:
        own = record.rungs[rung] - (0, *record.rungs)[rung]
        seconds = seconds * (own / np.maximum(epochs, 1))
    return float(np.median(seconds[trained & (generation == last)]))


def spoiled(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the commonest reason where the machine spoiled all there is; else an empty text.

    A device that was lost in the middle of a training may be that candidate's own doing.
    """
    reasons = Counter(str(row["failure"]) for row in found if row.get("status") == "infrastructure")
    lost = any(accelerators.fault(reason) in accelerators.LOST for reason in reasons)
    all_of_them = bool(found) and reasons.total() == len(found)
    return reasons.most_common(1)[0][0] if all_of_them and not lost else ""
