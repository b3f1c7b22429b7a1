"""Where a run stands, from its record (and who holds it, and what is in flight)."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .. import lock
from ..paths import RunPaths
from ..records import STATUSES
from ..store import Record
from ..store.record import PROPOSED


def status(record: Record, paths: RunPaths) -> dict[str, Any]:
    """Plain values for ``llmatic status --json``; None where there is nothing to say."""
    table, history = record.candidates, record.history
    counts = Counter(value.decode() for value in table["status"])
    best = best_candidate(record)
    total = int(record.config["search"]["generations"])
    done = record.committed_generations
    wall = _wall_seconds(record)
    holder = lock.holder(paths.lock)
    state = "running" if holder is not None else "finished" if done >= total else "stopped"
    last = {name: history[name][-1] for name in history} if done else {}
    return {
        "run": str(paths.root),
        "run_id": record.run_id,
        "state": state,
        "held_by": holder,
        "phase": record.phase,
        "generation": done,
        "generations": total,
        "candidates": record.rows,
        "generator": record.environment.get("generator"),
        "status": {name: counts[name] for name in (*STATUSES, "pending") if counts[name]},
        "best": None if best is None else _candidate(record, best),
        "network_elites": int(last["network_elites"]) if last else 0,
        "network_cells": len(record.archives["network"].elite),
        "prompt_elites": int(last["prompt_elites"]) if last else 0,
        "prompt_cells": len(record.archives["prompt"].elite),
        "qd_score": float(last["network_qd_score"]) if last else 0.0,
        "in_flight": _in_flight(record, paths),
        "train_hours": _hours(table["train_seconds"]),
        "queue_hours": _hours(table["queue_seconds"]),
        "generate_hours": _hours(history["generate_seconds"]),
        "seconds_left": round(wall * (total - done)) if wall is not None else None,
    }


def render(values: dict[str, Any]) -> RenderableType:
    """The same for a terminal."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()

    def row(name: str, text: str) -> None:
        table.add_row(name, Text(text))

    row("run", values["run"])
    held = values["held_by"]
    by = f" (host {held.get('host')}, process {held.get('pid')})" if held else ""
    row("state", values["state"] + by)
    row("generation", f"{values['generation']} of {values['generations']}")
    if flight := values["in_flight"]:
        row("in flight", f"{flight['results']} of {flight['candidates']} candidates evaluated")
    counts = ", ".join(f"{n} {name}" for name, n in values["status"].items())
    row("candidates", f"{values['candidates']}: {counts}" if counts else "none yet")
    row("written by", values["generator"] or "nothing yet")
    if best := values["best"]:
        row(
            "best",
            f"candidate {best['candidate']}: fitness {best['fitness']:.4f}, "
            f"test accuracy {_number(best['test_accuracy'])}, {best['flops']:.3g} FLOPs, "
            f"{best['params']} parameters",
        )
    row("networks", f"{values['network_elites']} elites in {values['network_cells']} cells, "
                    f"QD score {values['qd_score']:.3f}")  # fmt: skip
    row("prompts", f"{values['prompt_elites']} elites in {values['prompt_cells']} cells")
    row("hours", f"{values['train_hours']:.2f} training, {values['generate_hours']:.2f} "
                 f"generating, {values['queue_hours']:.2f} queueing")  # fmt: skip
    if values["seconds_left"] and values["state"] != "finished":
        row("time left", f"about {values['seconds_left'] / 60:.0f} minutes at this pace")
    return Group(table)


def generation_line(record: Record) -> str:
    """The last generation in a line."""
    history = record.history
    last = {name: values[-1] for name, values in history.items()}
    operator = last["operator"].decode()
    drawn = last["operator_drawn"].decode()
    instead = f" instead of {drawn}" if drawn != operator else ""
    best = best_candidate(record)
    text = "no candidate has a score yet"
    if best is not None:
        text = f"best {float(record.candidates['fitness'][best]):.4f} (candidate {best})"
    return (
        f"generation {record.committed_generations}/{record.config['search']['generations']} "
        f"done: {operator}{instead}, {last['trainable']} trainable, {last['added']} added, "
        f"{last['network_elites']} network elites, {last['prompt_elites']} prompt elites; {text}"
    )


def best_candidate(record: Record, *, max_flops: float = math.inf) -> int | None:
    """The fittest scored candidate within a bound on FLOPs, the first of equals."""
    fitness = np.where(
        (record.candidates["status"] == b"scored") & (record.candidates["flops"] <= max_flops),
        record.candidates["fitness"],
        -np.inf,
    )
    if not len(fitness) or not np.isfinite(fitness.max()):
        return None
    return int(np.argmax(fitness))


def _candidate(record: Record, row: int) -> dict[str, Any]:
    table = record.candidates
    numbers = ("fitness", "valid_accuracy", "test_accuracy", "flops", "ratio")
    return {
        "candidate": row,
        **{name: _or_none(float(table[name][row])) for name in numbers},
        **{name: int(table[name][row]) for name in ("width", "depth", "params")},
    }


def _in_flight(record: Record, paths: RunPaths) -> dict[str, int] | None:
    if record.phase != PROPOSED:
        return None
    pending = int(np.sum(record.candidates["status"] == b"pending"))
    try:
        names = {path.name.split(".")[0] for path in paths.results.glob("*.json")}
    except OSError:
        names = set()
    return {"candidates": pending, "results": len(names)}


def _wall_seconds(record: Record) -> float | None:
    """Median wall-clock time of a generation."""
    history = record.history
    parts = [history[f"{name}_seconds"] for name in ("generate", "screen", "evaluate")]
    if not record.committed_generations:
        return None
    return float(np.median(np.nansum(parts, axis=0)))


def _hours(seconds: Any) -> float:
    return float(np.nansum(seconds)) / 3600


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
