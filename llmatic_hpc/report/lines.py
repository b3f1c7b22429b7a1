"""The last of a run in a line: what a log is told after each generation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..store import Record, hours, repeats
from ..store.hours import Limit
from ..store.rows import queries


def generation_line(record: Record) -> str:
    """Describe the last generation in a line."""
    last = {name: values[-1] for name, values in record.history.items()}
    operator, drawn = last["operator"].decode(), last["operator_drawn"].decode()
    instead = f" instead of {drawn}" if drawn != operator else ""
    best = best_candidate(record)
    text = "no candidate has a score yet"
    if best is not None:
        text = f"best {repeats.scored(record).mean[best]:.4f} (candidate {best})"
    budget = int(record.config["search"].get("queries", 0))
    done = f"generation {record.committed_generations}"
    if budget:
        done = f"queries {queries(record)}/{budget}, {done}"
    else:
        done += f"/{record.config['search']['generations']}"
    return (
        f"{done} done: {operator}{instead}, {last['trainable']} trainable, {last['added']} added, "
        f"{last['network_elites']} network elites, {last['prompt_elites']} prompt elites; {text}"
        f"{_left(record)}"
    )


def _left(record: Record) -> str:
    """Say what is left of the hours that settings bound; empty where none do."""
    limits = hours.limits(record, record.archives["network"].elite)
    return "".join(f"; {one.setting}: {limit_line(one._asdict())}" for one in limits)


def limit_line(values: dict[str, Any]) -> str:
    """Describe hours that a setting bounds, and what is left of them."""
    limit = Limit(**values)
    return f"{limit}, {limit.left:.2f} left" if limit.left else f"{limit}: spent"


def best_candidate(record: Record, *, max_flops: float = math.inf) -> int | None:
    """Find the fittest scored network within a bound on FLOPs, the first of equals.

    It is known by the candidate that it was first trained as; its fitness is the mean over its
    trainings. Where a problem measures no FLOPs there is no bound either.
    """
    mean = repeats.scored(record).mean
    admitted = np.isfinite(mean) & ~(record.candidates["flops"] > max_flops)
    fitness = np.where(admitted, mean, -np.inf)
    if not len(fitness) or not np.isfinite(fitness.max()):
        return None
    return int(np.argmax(fitness))
