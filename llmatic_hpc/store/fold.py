"""Between the candidate table and the search: the archives are a fold over the table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..config import PROBLEMS, Config, from_tables, network_axes
from ..search import Search, Tessellation, Told
from ..types import Descriptor, Evaluation, Generation, Proposal, Update
from .record import ArchiveState, Record

PROMPT_AXES = (Descriptor("prompt", 0.0, 0.0), Descriptor("temperature", 0.0, 0.0))
"""Names of the prompt archive's axes; their bounds are settings."""

UPDATE_COLUMNS = tuple(f.name for f in dataclasses.fields(Update) if f.name != "candidate")
"""Columns that hold what ``Search.tell`` says of a candidate."""

GENERATION_COLUMNS = tuple(f.name for f in dataclasses.fields(Generation))


def new_search(config: Config, prompts: int, record: Record | None = None) -> Search:
    """Make a search before its first generation, in the cells of ``record`` where it has some."""
    problem = PROBLEMS.get(config.problem.kind)()
    descriptors = problem.descriptors(config.problem)
    cells: dict[str, Any] = {}
    if record is not None:
        scales = tuple(one.scale for one in network_axes(config.archive.network, descriptors))
        cells = {
            f"{name}_cells": Tessellation(
                centroids=state.centroids,
                lower=tuple(state.lower),
                upper=tuple(state.upper),
                log_axes=tuple(
                    scale == "log"
                    for scale in state.scales or (scales if name == "network" else ())
                ),
            )
            for name, state in record.archives.items()
        }
    return Search(
        config.search,
        config.archive,
        descriptors=descriptors,
        prompts=prompts,
        temperature=config.generator.temperature,
        seed=config.run.seed,
        neighbours=problem.neighbours(config.problem),
        **cells,
    )


def archive_states(search: Search) -> dict[str, ArchiveState]:
    """Return both archives as the record holds them."""
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
    return states


def evaluations(record: Record, generation: int) -> list[Evaluation]:
    """Select what the search may see of the evaluations told in a generation, in candidate order.

    Late ones of earlier generations come first. A duplicate counts with the score that it
    reuses. What the machine spoiled is ``infrastructure``; everything else without a score is
    the candidate's own doing.
    """
    table = record.candidates
    found = []
    for row in np.flatnonzero(table["told"] == generation).tolist():
        status = record.status(row)
        fitness = float(table["fitness"][row])
        if status in ("scored", "duplicate") and math.isfinite(fitness):
            seen = "scored"
        else:
            seen = "infrastructure" if status == "infrastructure" else "untrainable"
        found.append(
            Evaluation(
                candidate=row,
                status=seen,
                fitness=fitness if seen == "scored" else math.nan,
                descriptors=tuple(table["descriptors"][row].tolist()),
            )
        )
    return found


def fold(record: Record) -> Iterator[tuple[tuple[Proposal, ...], Told, Search]]:
    """Replay the table a generation at a time: what was asked, what was told, the search."""
    search = new_search(from_tables(record.config, "run.h5"), len(record.prompts), record)
    for generation in range(record.committed_generations):
        proposals = search.ask()
        told = search.tell(evaluations(record, generation))
        yield proposals, told, search


def resume(record: Record, config: Config) -> Search:
    """The search as it stands after the last committed generation."""
    search = new_search(config, len(record.prompts), record)
    for generation in range(record.committed_generations):
        search.ask()
        search.tell(evaluations(record, generation))
    return search


def proposal_columns(proposal: Proposal) -> dict[str, Any]:
    """A proposal by the columns that hold it."""
    return {
        "generation": proposal.generation,
        "index": proposal.index,
        "operator": proposal.operator,
        "parents": proposal.parents,
        "prompt": proposal.prompt,
        "temperature": proposal.temperature,
        "individual": proposal.individual,
        "seed": proposal.training_seed,
        "sampling_seed": proposal.sampling_seed,
    }
