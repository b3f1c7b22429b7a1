"""Several trainings of a network on the record: its candidate, and repeats of that.

A repeat is a candidate with the operator ``repeat`` whose one parent is the candidate that the
network was first trained as. Its fitness is that of its own training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..types import PENDING, Proposal
from .record import Record
from .rows import proposal_columns

_OF_THE_NETWORK = (
    "source", "source_sha256", "canonical_sha256", "architecture", "width", "depth", "ratio",
    "flops", "params", "activation_bytes", "naswot", "synflow",
)  # fmt: skip
"""Columns that all trainings of a network have alike."""


def row(proposal: Proposal, record: Record, *, passed_over: str) -> dict[str, Any]:
    """Make the row of a repeat, which is not screened again.

    ``passed_over``: the status of all but the first for its place, for which there is nothing.
    """
    columns = proposal_columns(proposal)
    if proposal.attempt:
        failure = f"its place went to candidate {proposal.candidate - proposal.attempt}"
        nothing = hashlib.sha256(b"").hexdigest()
        return {
            **columns, "source_sha256": nothing, "status": passed_over, "failure": failure
        }  # fmt: skip
    (network,), table = proposal.parents, record.candidates
    known: dict[str, Any] = {
        name: value.decode() if isinstance(value := table[name][network], bytes) else value
        for name in _OF_THE_NETWORK
    }
    descriptors = tuple(table["descriptors"][network].tolist())
    return {**columns, **known, "descriptors": descriptors, "form": "source", "status": PENDING}


class Trainings(NamedTuple):
    """Trainings with a score, by the candidate (N,) that was the first; repeats have none."""

    number: NDArray[np.int64]
    mean: NDArray[np.float64]
    """NaN without any."""
    deviation: NDArray[np.float64]
    """Sample standard deviation (n - 1); NaN with fewer than two."""


def trainings(record: Record, values: NDArray[np.float64]) -> Trainings:
    """Sum up ``values`` (N,) of single trainings by network; those that are NaN do not count."""
    rows, known = record.rows, np.isfinite(values)
    network = np.where(record.are_repeats, record.candidates["parents"][:, 0], np.arange(rows))
    count = np.bincount(network[known], minlength=rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(network[known], values[known], rows) / count
        squares = np.square(values - mean[network])
        variance = np.bincount(network[known], squares[known], rows) / (count - 1)
    return Trainings(count, mean, np.where(count > 1, np.sqrt(variance), np.nan))


def scored(record: Record, name: str = "fitness") -> Trainings:
    """Sum up a column over the trainings that have a score of their own."""
    values = record.candidates[name]
    return trainings(record, np.where(record.candidates["status"] == b"scored", values, np.nan))


def row_faults(record: Record, number: int) -> Iterator[str]:
    """Yield what cannot be of a repeat."""
    table = record.candidates
    network = int(table["parents"][number, 0])
    if not 0 <= network < number or record.are_repeats[network]:
        yield f"repeats candidate {network}, which is no network before it"
        return
    if record.status(number) == "passed_over":
        return
    for name in ("source_sha256", "canonical_sha256"):
        if table[name][number] != table[name][network]:
            yield f"{name} is not that of candidate {network}, which it repeats"
    if table["duplicate_of"][number] >= 0:
        yield "repeats a network and is a duplicate"
