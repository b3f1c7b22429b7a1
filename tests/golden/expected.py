"""Parts of golden runs that are the same on every machine, small enough to be kept in git."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import runs, tables
from .drive import Tree

PATH = Path(__file__).parent / "expected.json"
NAMES = (
    "write-networks", "control-cifar100-sound", "evolution", "local-search", "paper", "cells",
    "screen-honest", "screen-hostile", "smoke-first",
)  # fmt: skip
"""Some seconds in all."""

PROPOSED = (
    "index", "operator", "parents", "prompt", "temperature", "individual", "seed", "sampling_seed",
    "completion", "form", "tokens", "written", "repairs", "source", "source_sha256",
    "canonical_sha256", "duplicate_of", "status", "failure", "width", "depth", "ratio", "flops",
    "params",
)  # fmt: skip
"""Columns of a trained run's first generation that do not follow from its training. Later ones
have parents that do."""
TABULATED = ("candidates", "archives", "history", "prompts")
"""Parts of a run on the benchmark's table that are the same everywhere: nearly all."""
DIGITS = 6
"""Length of a candidate's digest."""
ROUNDED = ("archives/network/centroids", "archives/prompt/centroids", "archives/prompt/curiosity",
           "history/collective")  # fmt: skip
"""Sums and means, whose last digits depend on the libraries: left out."""


def golden(name: str) -> runs.Golden:
    """By its name."""
    return next(found for found in runs.ALL if found.name == name)


def kept(name: str, tree: Tree, work: Path) -> dict[str, Any]:
    """Do it, and keep what is the same everywhere."""
    one = golden(name)
    columns = tree.columns(one, work)
    if isinstance(one, runs.Screening | runs.Writing):
        return {"verdicts": dict(_verdicts(columns))}
    if isinstance(one, runs.Run) and one.is_tabulated:
        columns = {name: values for name, values in columns.items()
                   if name.partition("/")[0] in TABULATED and name not in ROUNDED}  # fmt: skip
    else:
        first = columns["candidates/generation"].count(0)
        columns = {f"candidates/{name}": columns[f"candidates/{name}"][:first] for name in PROPOSED}
    return {
        "columns": {name: tables.digest({"": values}) for name, values in columns.items()},
        "rows": "".join(_rows(columns)),
    }


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Verdicts that differ, or columns and the first row that does; what is new counts, too."""
    lines = []
    for part in ("verdicts", "columns"):
        old, new = expected.get(part, {}), found.get(part, {})
        for key in dict.fromkeys((*old, *new)):
            if old.get(key) != new.get(key):
                lines.append(f"{key}: {old.get(key)} -> {new.get(key)}")
    old, new = expected.get("rows", ""), found.get("rows", "")
    if len(old) != len(new):
        lines.append(f"{len(old) // DIGITS} candidates -> {len(new) // DIGITS}")
    if old != new:
        pairs = enumerate(zip(f"{old} ", f"{new} ", strict=False))
        first = next(place for place, (one, other) in pairs if one != other)
        lines.append(f"the first candidate that differs is {first // DIGITS}")
    return lines


def _verdicts(columns: tables.Columns) -> Iterator[tuple[str, str]]:
    """A line per file or completion."""
    for row, file in enumerate(columns["file"]):
        said = {name: values[row] for name, values in columns.items() if values[row] is not None}
        why = f": {said['failure']}" if said["failure"] else ""
        size = "".join(f", {name} {said[name]:g}" for name in ("width", "depth", "flops", "params")
                       if name in said)  # fmt: skip
        rules = "".join(f", {repair['rule']}" for repair in said.get("repairs", ()))
        text = f"; source {tables.shortened(said['source'])}" if "source" in said else ""
        tree = f"; tree {said['canonical_sha256'][:12]}" if said.get("canonical_sha256") else ""
        yield file, f"{said['verdict']}{why}{size}{rules}{text}{tree}"


def _rows(columns: tables.Columns) -> Iterator[str]:
    """The beginning of a digest for each candidate, of all its columns."""
    table = {name: values for name, values in columns.items() if name.startswith("candidates/")}
    for row in range(tables.rows(columns)):
        one = {name: values[row : row + 1] for name, values in table.items()}
        yield tables.digest(one)[:DIGITS]
