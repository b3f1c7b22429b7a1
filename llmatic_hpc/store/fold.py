"""Between the candidate table and the search: the archives are a fold over the table."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..config import PROBLEMS, Config, network_axes
from ..search import Search, Tessellation
from ..types import PENDING, Descriptor, Evaluation, Proposal
from . import promotion, rows
from .record import EVALUATED, ArchiveState, Record

PROMPT_AXES = (Descriptor("prompt", 0.0, 0.0), Descriptor("temperature", 0.0, 0.0))
"""Names of the prompt archive's axes; their bounds are settings."""


def new_search(config: Config, prompts: int, record: Record | None = None) -> Search:
    """Make a search before its first generation, in the cells of ``record`` where it has some."""
    problem = PROBLEMS.get(config.problem.kind)()
    descriptors = problem.descriptors(config.problem)
    known = {} if record is None else tessellations(record, config)
    cells: dict[str, Any] = {f"{name}_cells": known[name] for name in known}
    return Search(
        config.search,
        config.archive,
        descriptors=descriptors,
        prompts=prompts,
        temperature=config.generator.temperature,
        seed=config.run.seed,
        neighbours=problem.neighbours(config.problem),
        seeds=problem.seeds,
        writers=[name for name in config.generator.by_name() if name],
        initial=_initial(record),
        **cells,
    )


def tessellations(record: Record, config: Config) -> dict[str, Tessellation]:
    """Return the cells of both archives by the archive's name, as ``record`` holds them."""
    descriptors = PROBLEMS.get(config.problem.kind)().descriptors(config.problem)
    axes = {"network": network_axes(config.archive.network, descriptors), "prompt": ()}
    return {
        name: Tessellation(
            centroids=state.centroids,
            lower=tuple(state.lower),
            upper=tuple(state.upper),
            log_axes=tuple(
                scale == "log" for scale in state.scales or [one.scale for one in axes[name]]
            ),
        )
        for name, state in record.archives.items()
    }


def _initial(record: Record | None) -> tuple[float, ...]:
    """Return the initial network's descriptors by the axes; empty where they are not known."""
    known = record.task.get("initial", {}) if record is not None else {}
    return tuple(known.get(name, math.nan) for name in record.axes) if record and known else ()


def archive_states(search: Search, record: Record | None = None) -> dict[str, ArchiveState]:
    """Return both archives as a record holds them; with rungs by the scores in ``record``."""
    states = {}
    for name, archive, axes in (
        ("network", search.network_archive, search.descriptors),
        ("prompt", search.prompt_archive, PROMPT_AXES),
    ):
        cells = archive.tessellation
        curiosity = getattr(archive, "curiosity", np.zeros(len(archive.elites)))
        states[name] = ArchiveState(
            axes=tuple(one.label or one.name for one in axes),
            names=tuple(one.name for one in axes),
            scales=tuple(one.scale for one in axes),
            centroids=cells.centroids,
            lower=np.asarray(cells.lower, dtype=float),
            upper=np.asarray(cells.upper, dtype=float),
            elite=archive.elites.copy(),
            fitness=archive.fitness.copy(),
            curiosity=curiosity.copy(),
        )
    if record is not None and record.rungs:
        now = promotion.standing(record, search)
        states["network"] = replace(states["network"], **now._asdict())
    if search.challenges is not None:
        network = states["network"]
        counts = np.array([search.challenges.trainings(e) for e in network.elite.tolist()])
        if record is not None and promotion.is_deferred(record):
            counts = np.where(network.rung == 0, counts, 1)  # in full an elite is trained once
        counts = np.where(network.elite >= 0, counts, 0)
        states["network"] = replace(network, trainings=counts)
    return states


def evaluations(record: Record, generation: int) -> list[Evaluation]:
    """Select what the search may see of the evaluations told in a generation, in candidate order.

    Late ones of earlier generations come first. A duplicate counts with the score that it
    reuses. What the machine spoiled is ``infrastructure``, what was stopped at a rung ``stopped``;
    everything else without a score is the candidate's own doing. Where elites are trained in full
    at the end only, the search sees the scores at the first rung.
    """
    table = record.candidates
    is_deferred = promotion.is_deferred(record)
    found = []
    for row in np.flatnonzero(table["told"] == generation).tolist():
        status = record.status(row)
        fitness = fitness_of(record, row)
        if math.isfinite(fitness) and (is_deferred or status in ("scored", "duplicate")):
            status = "scored"
        else:
            fitness = math.nan
            if status == "duplicate":
                status = record.status(int(table["duplicate_of"][row]))
            is_told = status in ("stopped", "infrastructure", "passed_over")
            status = status if is_told else "untrainable"
        found.append(
            Evaluation(
                row,
                status,
                fitness,
                tuple(table["descriptors"][row].tolist()),
                trainings=promotion.cost_when_told(record, row),
                tokens=int(table["tokens"][row]) + sum(e["tokens"] for e in _earlier(table, row)),
                is_copy=bool(table["duplicate_of"][row] >= 0),
                possible=int(table["possible"][row]),
            )
        )
    return found


def fitness_of(record: Record, row: int) -> float:
    """Return the score of a candidate that the search goes by; NaN where it has none."""
    table, is_deferred = record.candidates, promotion.is_deferred(record)
    return float(table["rung_scores"][row, 0] if is_deferred else table["fitness"][row])


def _earlier(table: Mapping[str, Any], row: int) -> list[dict[str, Any]]:
    """Read what was sampled for a candidate and not kept; what cannot be read is nothing."""
    if not (text := table["earlier"][row]):
        return []
    try:
        found = json.loads(text)
        return [one for one in found if isinstance(one["tokens"], int)]
    except (ValueError, TypeError, KeyError):  # verify says so
        return []


def advance(
    record: Record,
    search: Search,
    results: Mapping[int, Mapping[str, Any]],
    timings: Mapping[str, float],
) -> None:
    """End the generation in flight: enter ``results``, tell the search, enter what it did.

    ``results`` has columns by candidate; ``timings`` are columns of the generation's own row. A
    duplicate takes over its original's result once that is in; what has no result stays out.
    """
    generation, table, out = record.committed_generations, record.candidates, record.out()
    for row in out:
        if (original := int(table["duplicate_of"][row])) >= 0:
            if record.status(original) != PENDING:
                found = rows.duplicate(record, original)
                record.update(row, rows.with_late(record, row, found))
        elif row in results:
            record.update(row, rows.with_late(record, row, results[row]))
    first = int(np.searchsorted(table["generation"], generation))
    for row in {*out, *range(first, record.rows)}:
        if record.status(row) != PENDING:
            record.update(row, {"told": generation})
    told = search.tell(evaluations(record, generation))
    for update in told.updates:
        values = dict(vars(update))
        record.update(values.pop("candidate"), values)
    record.history.append([{**vars(told.generation), **timings, "finished": time.time()}])
    record.phase = EVALUATED
    record.committed_generations += 1


def ask(record: Record, search: Search) -> tuple[Proposal, ...]:
    """Ask for a generation, with the new prompts that the record has before it."""
    table = record.rewritings
    of_generation = table["generation"] == search.generation
    search.prompt_rows.enter(search.generation, (table["prompt"][of_generation] >= 0).tolist())
    return search.ask()


def resume(record: Record, config: Config) -> Search:
    """Make the search as it stands after the last committed generation."""
    search = new_search(config, record.own_prompts, record)
    for generation in range(record.committed_generations):
        ask(record, search)
        search.tell(evaluations(record, generation))
    return search
