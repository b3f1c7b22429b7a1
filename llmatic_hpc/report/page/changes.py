"""Changes of the archives in the order in which they happened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...config import from_tables
from ...store import Record, fold, promotion

Floats = NDArray[np.float64]


class Change(NamedTuple):
    """A cell with its elite and the value by which that was chosen, from a generation on."""

    generation: int
    cell: int
    candidate: int
    value: float


def changes(record: Record) -> dict[str, list[Change]]:
    """Return the changes of both archives, in order.

    Where networks were trained again an elite's value is a mean, which changes with each repeat,
    and where prompts give way to new ones, cells are emptied (candidate -1): the search is then run
    again, and changes are told by generation.
    """
    if record.are_repeats.any() or record.evolves:
        return _replayed(record)
    return {
        "network": _entered(record, "network", scored(record)),
        "prompt": _entered(record, "prompt", _collective(record)),
    }


def scored(record: Record) -> Floats:
    """Return the fitness (N,) by which candidates entered the network archive."""
    table = record.candidates
    found = table["rung_scores"][:, 0] if promotion.is_deferred(record) else table["fitness"]
    return np.asarray(found, dtype=float)


def in_order(record: Record, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the numbers of candidates in the order in which they were told."""
    found = np.flatnonzero(rows)
    return found[np.argsort(record.candidates["told"][found], kind="stable")]


def _entered(record: Record, name: str, values: Floats) -> list[Change]:
    table = record.candidates
    rows = in_order(record, table[f"{name}_added"] >= 1).tolist()
    told, cells = table["told"], table[f"{name}_cell"]
    return [Change(int(told[row]), int(cells[row]), row, float(values[row])) for row in rows]


def _collective(record: Record) -> Floats:
    """Return the fitness (N,) with which each candidate's prompt individual was offered.

    It is how many offspring of its prompt had until then, itself included, beaten the best of the
    generation before.
    """
    table, fitness = record.candidates, scored(record)
    counts, found = np.zeros(len(record.prompts)), np.full(record.rows, np.nan)
    before = np.nan_to_num(record.history["best_before"], nan=-np.inf)
    for row in in_order(record, (table["told"] >= 0) & (table["prompt"] >= 0)).tolist():
        prompt = int(table["prompt"][row])
        counts[prompt] += fitness[row] > before[table["told"][row]]
        found[row] = counts[prompt]
    return found


def _replayed(record: Record) -> dict[str, list[Change]]:
    found: dict[str, list[Change]] = {"network": [], "prompt": []}
    known = {name: np.full(len(record.archives[name].elite), -1) for name in found}
    values = {name: np.full(len(record.archives[name].elite), np.nan) for name in found}
    for generation, archives in enumerate(_standings(record)):
        for name, (elite, value) in archives.items():
            moved = (elite != known[name]) | ((elite >= 0) & (value != values[name]))
            found[name] += [
                Change(generation, cell, int(elite[cell]), float(value[cell]))
                for cell in np.flatnonzero(moved).tolist()
            ]
            known[name], values[name] = elite, value
    return found


def _standings(record: Record) -> Iterator[dict[str, tuple[NDArray[np.int64], Floats]]]:
    """Run the search again, and yield the elites of its archives with their values."""
    config = from_tables(record.config, "run.h5")
    search = fold.new_search(config, record.own_prompts, record)
    for generation in range(record.committed_generations):
        fold.ask(record, search)
        search.tell(fold.evaluations(record, generation))
        yield {
            "network": (
                search.network_archive.elites.copy(),
                search.network_archive.fitness.copy(),
            ),
            "prompt": (search.prompt_archive.elites.copy(), search.prompt_archive.fitness.copy()),
        }
