"""Scores of a record against the benchmark's table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...config import from_tables
from ...errors import DataError
from ...store import Difference, Record
from .cells import architecture
from .reader.read import CellReader
from .table import BenchmarkTable


def against(record: Record, table: BenchmarkTable) -> Iterator[Difference]:
    """Yield where scores of NAS-Bench-201 differ from the benchmark's table.

    The cell is the one that the source spells; a source that is not canonical is traced in a
    contained child. Raises :class:`DataError` for another table than the run's.
    """
    config = from_tables(record.config, "run.h5")
    problem = config.problem
    known = record.environment.get("benchmark", {}).get("table_sha256")
    if known is None:
        raise DataError(f"{table.path}: the run is none of NAS-Bench-201; leave --table out")
    if known != table.digest:
        raise DataError(
            f"{table.path}: not the table of this run, whose SHA-256 begins with {known[:12]} and "
            f"not with {table.digest[:12]}"
        )
    accuracies, columns = table.datasets[problem.dataset], record.candidates
    is_full = problem.table_epochs == 200
    valid = accuracies.valid if is_full else accuracies.valid_12
    fitness = valid
    if problem.protocol == "paper":
        fitness = accuracies.test if is_full else accuracies.test_12
    scored = np.flatnonzero(columns["status"] == b"scored").tolist()
    with CellReader(config.containment) as reader:
        readings = reader.read([columns["source"][row] for row in scored])
    for row, reading in zip(scored, readings, strict=True):
        where, name = f"candidate {row}", columns["architecture"][row]
        spelled = f"no cell ({reading.failure})"
        if reading.cell is not None:
            spelled = architecture(reading.cell)
        if spelled != name:
            yield Difference(where, f"architecture is {name}, its source spells {spelled}")
            continue
        at = table.row(name)
        for column, values in (
            ("fitness", fitness),
            ("valid_accuracy", valid),
            ("test_accuracy", accuracies.test),
        ):
            there, here = float(columns[column][row]), float(values[at] / 100.0)
            if there != here:
                yield Difference(where, f"{column} is {there}, the table says {here}")
