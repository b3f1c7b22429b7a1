"""Lists: the elites of a run, and the runs below a folder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from ..errors import RecordError
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

    Of a record that cannot be read the row has the reason instead.
    """
    for file in sorted(folder.rglob(RunPaths(Path()).record.name)):
        paths = RunPaths(file.parent)
        try:
            values = status(load(file), paths, asks=False)
        except RecordError as error:
            yield {"run": str(paths.root), "state": "unreadable", "error": str(error)}
            continue
        names = ("run", "state", "generation", "generations", "candidates", "queries", "generator")
        best = values["best"] or {}
        yield {name: values[name] for name in names} | {
            "best": best.get("candidate"),
            "fitness": best.get("fitness"),
            "test_accuracy": best.get("test_accuracy"),
        }


def render_runs(rows: list[dict[str, Any]]) -> Table:
    """Lay out what :func:`runs` yielded for a terminal."""
    made = _table("generation", "candidates", "fitness", "test", first=("run", "state"))
    for row in rows:
        if error := row.get("error"):
            made.add_row(Text(row["run"]), Text(f"{row['state']}: {error}", overflow="fold"))
            continue
        made.add_row(
            Text(row["run"]), row["state"], f"{row['generation']}/{row['generations']}",
            str(row["candidates"]), _share(row["fitness"]), _share(row["test_accuracy"]),
        )  # fmt: skip
    return made


def _table(*numbers: str, first: tuple[str, ...] = (), last: tuple[str, ...] = ()) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in first:
        made.add_column(name, overflow="fold")
    for name in numbers:
        made.add_column(name, justify="right", no_wrap=True)
    for name in last:  # only the very last gives way where a terminal is narrow
        made.add_column(name, no_wrap=name != last[-1])
    return made


def _share(value: float | None) -> str:
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.4f}"
