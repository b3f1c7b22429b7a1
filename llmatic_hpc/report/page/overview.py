"""Facts at the head of the page: what a run is, whether its record is sound, what it ran on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import LLMaticError
from ...rundir.paths import RunPaths
from ...store import Record, verify
from ...store.record import PROPOSED
from ...store.rows import queries
from ...types import STATUSES
from .. import plan
from ..lines import best_candidate
from ..rates import line, rates
from ..recipe import trained_by


def overview(record: Record) -> dict[str, Any]:
    """Return where a run stands, in numbers, and all of its facts as lists of name and value."""
    table, search = record.candidates, record.config["search"]
    counts = Counter(value.decode() for value in table["status"][~record.are_repeats])
    best = best_candidate(record)
    how = trained_by(record)
    return {
        "run_id": record.run_id,
        "generation": record.committed_generations,
        "generations": int(search["generations"]),
        "in_flight": record.phase == PROPOSED,
        "candidates": int((~record.are_repeats).sum()),
        "scored": queries(record),
        "status": {name: counts[name] for name in (*STATUSES, "pending") if counts[name]},
        "best": best,
        "generator": record.environment.get("generator") or "nothing yet",
        "fitness": _fitness(record),
        "completions": line(rates(record)) if record.rows else "none yet",
        "training": f"{how.in_full} epochs, {how.recipe()}" if how else "",
        "data_sha256": record.data_sha256,
        "devices": _counted(table["device"].tolist()),
        "nodes": _counted(table["node"].tolist()),
        "software": str(record.environment.get("llmatic_hpc", "unknown")),
        "commit": str(record.environment.get("commit", "")),
        "configuration": list(_flat(record.config)),
        "environment": list(_flat(record.environment)),
    }


def planned(record: Record, folder: Path) -> str:
    """Say what was planned and what it came to; empty where nothing was."""
    values = plan.compared(record, RunPaths(folder))
    return plan.comparison_line(values) if values else ""


def verdict(record: Record) -> dict[str, Any]:
    """Return whether ``llmatic verify`` finds the record sound, and the first difference."""
    try:
        first = next(verify(record), None)
    except LLMaticError as error:
        return {"sound": None, "text": f"could not be verified here: {error}"}
    if first is not None:
        return {"sound": False, "text": str(first)}
    return {
        "sound": True,
        "text": f"{record.committed_generations} generations, {record.rows} candidates: proposals "
        "and archives equal a replay",
    }


def _fitness(record: Record) -> str:
    """Say which accuracy the search maximised."""
    if record.environment.get("benchmark"):
        return f"accuracy in the benchmark, protocol {record.environment['benchmark']['protocol']}"
    return f"{record.config['training'].get('fitness_split', 'test')} accuracy"


def _counted(names: list[bytes]) -> list[tuple[str, int]]:
    counts = Counter(name.decode() for name in names if name)
    return counts.most_common(12)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as names with points and values in words."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif name != "initial_network":  # shown as a source
            shown = value if isinstance(value, str) else json.dumps(value)
            yield f"{prefix}{name}", shown


def rungs(record: Record) -> dict[str, Any] | None:
    """Return the epochs of each rung and how many candidates have a score there; None without."""
    if not record.rungs:
        return None
    reached = np.isfinite(record.candidates["rung_scores"]).sum(axis=0)
    return {"epochs": list(record.rungs), "reached": reached.tolist()}
