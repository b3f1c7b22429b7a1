"""Columns of what a run or a screening comes to; and where two of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

MEASURED = frozenset((
    "candidates/generate_seconds", "candidates/queue_seconds", "candidates/train_seconds",
    "candidates/milliseconds", "candidates/slurm_job", "candidates/node",
    "history/started", "history/finished", "history/generate_seconds", "history/screen_seconds",
    "history/evaluate_seconds", "history/lost_machine_seconds",
    "history/lost_preempted_seconds", "history/lost_limit_seconds",
    *(f"attempts/{name}" for name in ("submitted", "start", "end", "job", "node")),
))  # fmt: skip
"""Data sets that differ between two runs of the same configuration and seed."""
FROM_TABLE = "candidates/train_seconds"
"""Measured, too, unless it is the benchmark's."""

ATTRIBUTES = ("format", "schema_version", "phase", "committed_generations", "committed_candidates")
ENVIRONMENT = ("generator", "benchmark")
ROWS = {"candidates": "candidate", "archives": "cell", "history": "generation",
        "attempts": "attempt", "prompts": "prompt"}  # fmt: skip

Columns = dict[str, list[Any]]
"""Data sets by their path in the file, a value per row."""


@dataclass(frozen=True)
class Difference:
    """The first row in which a column differs, and how often it does."""

    column: str
    row: str
    base: Any
    new: Any
    rows: int

    def __str__(self) -> str:
        more = f" (and {self.rows - 1} rows more)" if self.rows > 1 else ""
        where = f" {self.row}" if self.row else ""
        return f"{self.column}{where}: {_short(self.base)} -> {_short(self.new)}{more}"


def of_record(path: Path) -> Columns:
    """Everything in a run.h5 but what is measured and what names the machine."""
    columns: Columns = {}
    with h5py.File(path) as file:

        def visit(name: str, node: h5py.Group | h5py.Dataset) -> None:
            if isinstance(node, h5py.Dataset) and node.shape:
                is_text = h5py.check_string_dtype(node.dtype) is not None
                columns[name] = (node.asstr() if is_text else node)[:].tolist()

        file.visititems(visit)
        settings = json.loads(file["config"].asstr()[()])
        environment = json.loads(file["environment"].asstr()[()])
        attributes = {name: file.attrs.get(name) for name in ATTRIBUTES}
    singles = {
        **_flat("config", settings), **_flat("attributes", attributes),
        **_flat("environment", {name: environment.get(name) for name in ENVIRONMENT}),
    }  # fmt: skip
    columns |= {name: [value] for name, value in singles.items()}
    is_tabulated = singles.get("config/problem.kind") == "nasbench201"
    left_out = MEASURED - ({FROM_TABLE} if is_tabulated else set())
    return {name: values for name, values in columns.items() if name not in left_out}


def of_verdicts(lines: Iterable[str], *, lenient: bool = False) -> Columns:
    """Columns of the output of ``llmatic screen --json``. ``lenient``: which limit came first
    depends on the machine's load, and is left out."""
    verdicts = [json.loads(line) for line in lines]
    for verdict in verdicts:
        if verdict["verdict"] == "too_slow":
            verdict["failure"] = verdict["failure"].replace("CPU time", "time")
        if lenient and verdict["verdict"] in ("too_slow", "too_large"):
            verdict |= {"verdict": "a limit", "failure": ""}
    names = dict.fromkeys(name for verdict in verdicts for name in verdict)
    columns = {name: [verdict.get(name) for verdict in verdicts] for name in names}
    columns["file"] = [Path(name).name for name in columns["file"]]
    return columns


def of_completions(lines: Iterable[str]) -> Columns:
    """Columns of what ``llmatic generate --json`` prints."""
    written = [json.loads(line) for line in lines]
    names = dict.fromkeys(name for one in written for name in one)
    columns = {name: [one.get(name) for one in written] for name in names}
    return {"file": [f"completion {number}" for number in range(len(written))], **columns}


def digest(columns: Columns) -> str:
    """Digest of all values but settings, which name folders of the day."""
    values = {name: column for name, column in columns.items() if not name.startswith("config/")}
    return shortened(json.dumps(values, sort_keys=True, default=_plain))


def shortened(text: str) -> str:
    """Digest enough to tell what differs."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def rows(columns: Columns) -> int:
    """Number of candidates or files."""
    return len(columns.get("candidates/status", columns.get("file", ())))


def differences(
    base: Columns, new: Columns, expect_new: Iterable[str] = (), expect_gone: Iterable[str] = ()
) -> Iterator[Difference]:
    """Columns of one side only, and the first difference of each that both have."""
    files = base.get("file", [])
    for name in dict.fromkeys((*base, *new)):
        if name not in new:
            if not _among(name, expect_gone):
                yield Difference(name, "", "a column", "no such column", 1)
        elif name not in base:
            if not _among(name, expect_new):
                yield Difference(name, "", "no such column", "a column", 1)
        else:
            pairs = enumerate(zip(base[name], new[name], strict=False))
            unequal = [row for row, pair in pairs if not _same(*pair)]
            if unequal:
                first = unequal[0]
                where = files[first] if files else _row(name, first)
                yield Difference(name, where, base[name][first], new[name][first], len(unequal))
            elif len(base[name]) != len(new[name]):
                yield Difference(name, "", f"{len(base[name])} rows", f"{len(new[name])} rows", 1)


def _among(name: str, expected: Iterable[str]) -> bool:
    return any(name == e or name.endswith(f"/{e}") for e in expected)


def _row(name: str, row: int) -> str:
    kind = ROWS.get(name.partition("/")[0])
    return f"{kind} {row}" if kind else ""


def _same(one: Any, other: Any) -> bool:
    """Equal to the last bit, NaN included."""
    return type(one) is type(other) and (one == other or repr(one) == repr(other))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _flat(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    """Nested mappings as one: ``config/search.batch``."""
    found: dict[str, Any] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(f"{path}.{name}", inner)
        else:
            found[f"{prefix}/{path.lstrip('.')}"] = _plain(value)

    walk("", values)
    return found


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
