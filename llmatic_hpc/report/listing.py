"""Lists: the elites of a run, and the runs below a folder."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from ..errors import LLMaticError
from ..rundir import lock
from ..rundir.paths import RunPaths
from ..store import Record, load, repeats
from ..types import NO_PROMPT
from .status import status

UNKNOWN = "–"


def elites(record: Record) -> list[dict[str, Any]]:
    """Return a plain row for every elite of the network archive, the fittest first."""
    archive, table = record.archives["network"], record.candidates
    occupied = np.flatnonzero(archive.elite >= 0)
    order = occupied[np.argsort(-archive.fitness[occupied], kind="stable")]
    found = []
    known, tested = repeats.scored(record), repeats.scored(record, "test_accuracy")
    for cell, row in zip(order.tolist(), archive.elite[order].tolist(), strict=True):
        prompt = int(table["prompt"][row])
        found.append(
            {
                "candidate": row,
                "fitness": float(archive.fitness[cell]),
                "trainings": int(known.number[row]),
                "deviation": float(known.deviation[row]),
                "test_accuracy": float(tested.mean[row]),
                "descriptors": dict(
                    zip(archive.names, table["descriptors"][row].tolist(), strict=True)
                ),
                "cell": cell,
                "generation": int(table["generation"][row]),
                "operator": table["operator"][row].decode(),
                "prompt": "" if prompt == NO_PROMPT else record.prompts[prompt],
            }
        )
    return found


def render_elites(rows: list[dict[str, Any]]) -> Table:
    """Lay out what :func:`elites` returned for a terminal."""
    axes = list(rows[0]["descriptors"]) if rows else []
    several = any(row["trainings"] > 1 for row in rows)
    more = ("trainings", "deviation") if several else ()
    made = _table(
        "candidate", "fitness", *more, "test", *axes, "generation", last=("operator", "prompt")
    )
    for row in rows:
        made.add_row(
            str(row["candidate"]), _share(row["fitness"]),
            *((str(row["trainings"]), _share(row["deviation"])) if several else ()),
            _share(row["test_accuracy"]),
            *(f"{value:.4g}" for value in row["descriptors"].values()),
            str(row["generation"]), row["operator"],
            Text(row["prompt"], no_wrap=True, overflow="ellipsis"),
        )  # fmt: skip
    return made


def runs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a plain row for every run below ``folder``, in the order of their paths.

    A record that cannot be read has the reason in its row, and a folder whose coordinator has
    written none yet the state ``starting``, or ``empty`` once that is gone.
    """
    here = RunPaths(Path())
    names = {here.record.name, here.lock.name}
    # What runs remove meanwhile is passed over, as Path.rglob would not.
    found = {Path(root) for root, _, files in os.walk(folder) if not names.isdisjoint(files)}
    for root in sorted(found):
        paths = RunPaths(root)
        row: dict[str, Any] = {"run": str(root)}
        try:
            age = time.time() - paths.record.stat().st_mtime
            record = load(paths.record)
            values = status(record, paths, asks=False)
        except FileNotFoundError:
            yield row | {"state": "empty" if lock.holder(paths.lock) is None else "starting"}
            continue
        except (LLMaticError, OSError, LookupError, TypeError, ValueError) as error:
            # Whatever lies there under the name of a record hides no other.
            why = f"{error}" if isinstance(error, LLMaticError) else f"{paths.record}: {error!r}"
            yield row | {"state": "unreadable", "error": why}
            continue
        if record.updated:
            age = time.time() - datetime.fromisoformat(record.updated).timestamp()
        wanted = ("state", "generation", "generations", "candidates", "queries", "budget",
                  "generator")  # fmt: skip
        best = values["best"] or {}
        yield (
            row
            | {name: values[name] for name in wanted}
            | {
                "best": best.get("candidate"),
                "fitness": best.get("fitness"),
                "test_accuracy": best.get("test_accuracy"),
                "age_seconds": max(0, round(age)),
            }
        )


def render_runs(rows: list[dict[str, Any]]) -> Table:
    """Lay out what :func:`runs` yielded: one line each, however long it is."""
    made = Table(box=None, pad_edge=False, header_style="")
    for name in ("state", "done", "candidates", "fitness", "test", "age", "run"):
        is_number = name not in ("state", "run")
        made.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    for row in rows:
        if "age_seconds" not in row:
            why = " ".join(row.get("error", row["run"]).split())
            made.add_row(row["state"], *[UNKNOWN] * 5, Text(why))
            continue
        done = f"{row['generation']}/{row['generations']}"
        if row["budget"]:
            done = f"{row['queries']}/{row['budget']} queries"
        made.add_row(
            row["state"], done, str(row["candidates"]), _share(row["fitness"]),
            _share(row["test_accuracy"]), age(row["age_seconds"]), Text(row["run"]),
        )  # fmt: skip
    return made


def age(seconds: float) -> str:
    """Return a span of time in its largest unit: ``40 s``, ``12 min``, ``3 h``, ``8 days``."""
    for unit, size, enough in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < enough * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _table(*numbers: str, last: tuple[str, ...] = ()) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in numbers:
        made.add_column(name, justify="right", no_wrap=True)
    for name in last:  # only the very last gives way where a terminal is narrow
        made.add_column(name, no_wrap=name != last[-1])
    return made


def _share(value: float | None) -> str:
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.4f}"
