"""Promotion on the record: who trained on from which rung, what it cost, who stands where.

A record with rungs has every candidate's scores there (``candidates/rung_scores``). Which candidate
goes on follows from them and from the archive, so that a replay decides it again.

With ``training.promotion = "elites"`` the search goes by the first rung alone, and the elites are
trained in full when the run ends. What that finds changes the archive on the record, never the
search: it goes on from there as if it had not been interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..search import Search, promotion
from . import repeats
from .record import Record

FULL = 1.0
"""Cost of a full training."""


def is_deferred(record: Record) -> bool:
    """Return whether elites alone are trained in full, at the end."""
    return bool(record.rungs) and record.config["training"]["promotion"] == "elites"


def stopped(
    record: Record, search: Search, scores: Mapping[int, float], rung: int
) -> dict[int, str]:
    """Return which of the candidates with ``scores`` at a rung train no further, and why.

    ``search`` is as it stands at the beginning of their generation.
    """
    settings = record.config["training"]
    where = f"after {record.rungs[rung]} epochs"
    if is_deferred(record):
        return dict.fromkeys(scores, f"{where}: elites alone are trained on")
    table, archive = record.candidates, search.network_archive
    candidates = sorted(scores)
    places = archive.tessellation.locate([table["descriptors"][row].tolist() for row in candidates])
    known = {
        cell: float(table["rung_scores"][elite, rung])
        for cell, elite in enumerate(archive.elites.tolist())
        if elite >= 0
    }
    found = promotion.stopped(
        [
            promotion.Newcomer(row, place.cell, scores[row])
            for row, place in zip(candidates, places, strict=True)
        ],
        known,
        margin=float(settings["rung_margin"]),
        best_only=settings["promotion"] == "halving",
    )
    return {row: f"{where}: {why}" for row, why in found.items()}


# --- cost -------------------------------------------------------------------------------------


def cost(record: Record) -> float:
    """Return what a run has cost so far, in full trainings.

    Counted, not measured: epochs over those of a full training. One that failed counts to the end
    of the rung it was in; a duplicate and what the machine spoiled cost nothing.
    """
    table = record.candidates
    status, epochs = table["status"], table["epochs"]
    own = (table["duplicate_of"] < 0) & (table["attempts"] > 0)
    own &= (status != b"infrastructure") & (status != b"pending")
    if record.rungs:
        return float(epochs[own].sum()) / record.rungs[-1]
    if not record.config["search"].get("train_start", True):
        own &= (epochs > 0) | (status != b"scored")
    return FULL * float(np.count_nonzero(own))


def cost_when_told(record: Record, row: int) -> float:
    """Return what a candidate had cost when the search was told of it, in full trainings.

    As in :func:`cost`, without what training elites in full at the end adds.
    """
    table = record.candidates
    status = record.status(row)
    if table["duplicate_of"][row] >= 0 or table["attempts"][row] <= 0:
        return 0.0
    if status in ("infrastructure", "pending"):
        return 0.0
    epochs = int(table["epochs"][row])
    if record.rungs:
        most = record.rungs[0] if is_deferred(record) else record.rungs[-1]
        return min(epochs, most) / record.rungs[-1]
    untrained = not record.config["search"].get("train_start", True) and epochs <= 0
    return 0.0 if untrained and status == "scored" else FULL


def due(record: Record) -> int:
    """Count the elites of the archive on the record that are still to be trained in full."""
    rung = record.archives["network"].rung
    return int(np.count_nonzero(rung == 0)) if rung is not None and is_deferred(record) else 0


def committed_cost(record: Record, elites: NDArray[np.int64]) -> float:
    """Return the cost so far and of what is bound to follow: ``elites`` that are still due."""
    if not is_deferred(record):
        return cost(record)
    promoted = record.candidates["promoted"]
    return cost(record) + FULL * float(np.count_nonzero(promoted[elites[elites >= 0]] < 0))


# --- who stands where -------------------------------------------------------------------------


class Standing(NamedTuple):
    """Elites by cell (K,), their fitness, and the rung at which that was measured; -1: empty."""

    elite: NDArray[np.int64]
    fitness: NDArray[np.float64]
    rung: NDArray[np.int64]

    def due(self) -> list[int]:
        """Return the elites that have not been trained in full, in their order."""
        return sorted(self.elite[self.rung == 0].tolist())


def standing(record: Record, search: Search, done: NDArray[np.bool_] | None = None) -> Standing:
    """Return the elites of the network archive at the highest rung that each has.

    ``done`` (N,): candidates that count as trained in full after the end of their generation; all
    that are. Where a cell's elite by the first rung is one of them, the best in full of the cell's
    candidates takes the cell, the first of equals; where all of these failed, the best of the rest
    by the first rung. An elite that is not done stands: it won at the highest rung that it and
    those before it have.
    """
    archive, table = search.network_archive, record.candidates
    elite, fitness = archive.elites.copy(), archive.fitness.copy()
    last = 0 if is_deferred(record) else len(record.rungs) - 1
    rung = np.where(elite >= 0, last, -1)
    done = table["promoted"] >= 0 if done is None else done
    own = (table["told"] >= 0) & (table["told"] < search.generation) & (table["duplicate_of"] < 0)
    own &= ~record.are_repeats
    short = repeats.trainings(
        record, np.where(table["told"] < search.generation, table["rung_scores"][:, 0], np.nan)
    ).mean
    for cell in np.unique(table["network_cell"][done & own]).tolist():
        if not done[elite[cell]]:
            continue
        here = own & (table["network_cell"] == cell)
        for at, members, score in (
            (len(record.rungs) - 1, here & done, table["fitness"]),
            (0, here & ~done, short),
        ):
            members = members & np.isfinite(score)
            if members.any():
                best = int(np.argmax(np.where(members, score, -np.inf)))
                elite[cell], fitness[cell], rung[cell] = best, score[best], at
                break
        else:
            elite[cell], fitness[cell], rung[cell] = -1, np.nan, -1
    return Standing(elite, fitness, rung)


# --- decided again ----------------------------------------------------------------------------


def differences(record: Record, search: Search, generation: int) -> Iterator[tuple[int, str]]:
    """Yield where promotions of a generation are not what a replay decides: candidate, and why.

    ``search`` is as it stands at the beginning of the generation.
    """
    if is_deferred(record):
        return
    table = record.candidates
    own = np.flatnonzero((table["told"] == generation) & (table["duplicate_of"] < 0))
    reached = np.isfinite(table["rung_scores"])
    for rung, epochs in enumerate(record.rungs[:-1]):
        here = [row for row in own.tolist() if reached[row, rung]]
        scores = {row: float(table["rung_scores"][row, rung]) for row in here}
        why = stopped(record, search, scores, rung)
        for row in here:
            went_on = bool(reached[row, rung + 1]) or record.status(row) != "stopped"
            if went_on and row in why:
                yield row, f"trained on from {epochs} epochs, a replay stops it {why[row]}"
            elif not went_on and row not in why:
                yield row, f"stopped after {epochs} epochs, a replay trains it on"


def late_differences(record: Record, search: Search) -> Iterator[tuple[int, str]]:
    """Yield the candidates that were trained in full when a run ended here, and were no elites."""
    table, now = record.candidates, search.generation
    wanted = table["promoted"] == now
    if not wanted.any():
        return
    done = (table["promoted"] >= 0) & (table["promoted"] < now)
    while (due := np.array(standing(record, search, done).due(), int))[wanted[due]].size:
        done[due[wanted[due]]] = True
    for row in np.flatnonzero(wanted & ~done & (table["duplicate_of"] < 0)).tolist():
        yield row, f"trained in full after generation {now - 1}, and no elite then"


def row_faults(record: Record, row: int) -> Iterator[str]:
    """Yield what cannot be of a candidate's scores at its rungs."""
    scores: NDArray[Any] = record.candidates["rung_scores"][row]
    status, known = record.status(row), np.isfinite(scores)
    if ((scores[known] < 0) | (scores[known] > 1)).any():
        yield f"scored at its rungs {scores.tolist()}"
    if status == "stopped" and (not known[0] or known[-1]):
        yield "stopped, and its scores at the rungs do not say where"
    if status == "scored" and scores[-1] != record.candidates["fitness"][row]:
        yield f"fitness is {record.candidates['fitness'][row]}, its last rung {scores[-1]}"
    if status == "scored" and is_deferred(record) and record.candidates["promoted"][row] < 0:
        yield "trained in full, and not at the end of the run"
