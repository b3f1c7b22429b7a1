"""Candidates are cells of NAS-Bench-201, scored by a look-up in the benchmark's table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...config import Config, ProblemSettings, from_tables, network_axes
from ...errors import ConfigError, DataError
from ...store import Difference, Record
from ...types import PENDING, Examined, Outcome, Screened
from ..evaluator import Immediate
from . import cells, table, write
from .kind import NASBench201, nasbench201
from .reader.layers import NotACell
from .reader.read import CellReader, Reading

NAME = "nasbench201"
"""Name that a result of the table has in place of a node."""


def epochs_of(settings: ProblemSettings) -> tuple[int, ...]:
    """Return the epochs of the trainings that give fitness, the last in the end."""
    given = settings.table_epochs
    return given if isinstance(given, tuple) else (given,)


def single_columns(settings: ProblemSettings) -> tuple[str, ...]:
    """Return the columns that a single training of the table gives."""
    return ("fitness", "valid_accuracy") if settings.protocol == "sound" else ("fitness",)


def load_table(settings: ProblemSettings) -> table.BenchmarkTable:
    """The whole table that the settings ask for.

    Raises :class:`~llmatic_hpc.errors.DataError` where it is missing, damaged, or lacks what a
    run needs, and says how to get one.
    """
    if not settings.table:
        raise DataError(
            "problem.table is not set: it names the table of NAS-Bench-201 that accuracies are "
            f"looked up in. {table.HOW}"
        )
    found = table.read(Path(settings.table))
    if not found.complete:
        raise DataError(
            f"{found.path}: {len(found.rows):,} of the benchmark's {table.CELLS:,} cells; a search "
            f"needs all of them. {table.HOW}"
        )
    has_12_epochs = found.datasets[settings.dataset].has_12_epochs
    if epochs_of(settings) != (table.EPOCHS,) and not has_12_epochs:
        raise DataError(
            f"{found.path}: without accuracies after {epochs_of(settings)[0]} epochs on "
            f"{settings.dataset}, as the official file that it was made of; set "
            f"problem.table_epochs = {table.EPOCHS}, or convert a newer official file"
        )
    return found


def _check(config: Config, initial: Reading, dataset: cells.Dataset) -> None:
    """Raise :class:`~llmatic_hpc.errors.ConfigError` for what would search in vain."""
    if initial.cell is None:
        where = f"problem.initial: {config.problem.initial}"
        raise ConfigError(f"{where} is no cell: {initial.failure}")
    given = config.archive.network
    (_, least), (_, most) = cells.bounds(dataset)
    axes = network_axes(given, NASBench201().descriptors(config.problem), settled=False)
    (flops,) = [one for one in axes if one.name == "flops"]
    if flops.lower >= most or flops.upper <= least:
        raise ConfigError(
            f"archive.network.lower and upper: FLOPs from {flops.lower:g} to {flops.upper:g}, but "
            f"every cell has {least:g} to {most:g}; set both to [] for the benchmark's own"
        )


class Tabulated(Immediate):
    """The evaluator of NAS-Bench-201.

    Raises :class:`~llmatic_hpc.errors.DataError` where ``problem.table`` cannot be had.
    """

    trains_anew = True  # the benchmark's 12 epochs are a training of their own

    def __init__(self, config: Config) -> None:
        self._config = config
        settings = config.problem
        super().__init__(nasbench201(settings))
        self._dataset = cells.DATASETS[settings.dataset]
        self._reader = CellReader(config.containment)
        (initial,) = self._reader.read([self.problem.initial_source])
        _check(config, initial, self._dataset)
        self._table = load_table(settings)
        accuracies = self._table.datasets[settings.dataset]
        self._epochs = epochs_of(settings)
        self._scores = [
            {
                **accuracies.scores(settings, epochs),
                "train_seconds": accuracies.seconds * (epochs / table.EPOCHS),
            }
            for epochs in self._epochs
        ]
        self._single = None if settings.table_trainings == "mean" else accuracies
        errors = -self._scores[-1]["test_accuracy"]
        self._rank = 1 + np.searchsorted(np.sort(errors), errors, side="left")
        self._known: dict[cells.Cell, Screened] = {}

    def facts(self) -> dict[str, Any]:
        """Name the table, and the best that can be found there."""
        return {
            "benchmark": {
                "name": NAME,
                "dataset": self._dataset.name,
                "protocol": self._config.problem.protocol,
                "epochs": self._epochs[-1],
                "table_sha256": self._table.digest,
                "cells": len(self._table.rows),
                "best_fitness": float(np.max(self._scores[-1]["fitness"])),
                "best_test_accuracy": float(np.max(self._scores[-1]["test_accuracy"])),
                **(self._single.single_facts() if self._single else {}),
            }
        }

    def examine(self, sources: Sequence[str], *, repair: bool) -> list[Examined]:
        """See :meth:`.Evaluator.examine`. What runs of a source runs in a contained child."""
        readings = self._reader.read(sources)
        return [self._examined(*one, repair) for one in zip(sources, readings, strict=True)]

    def screen(self, source: str) -> Screened:
        """See :meth:`.Immediate.screen`."""
        (found,) = self.examine([source], repair=False)
        return found.screened

    def score(self, source: str, architecture: str) -> Outcome:
        """See :meth:`.Immediate.score`: an array look-up."""
        return self.score_at(source, architecture, -1)

    def score_at(self, source: str, architecture: str, rung: int) -> Outcome:
        """See :meth:`.Immediate.score_at`."""
        row, scores = self._table.row(architecture), self._scores[rung]
        values: dict[str, Any] = {name: float(column[row]) for name, column in scores.items()}
        return Outcome("scored", epochs=self._epochs[rung], **values)

    def score_with(self, source: str, architecture: str, rung: int | None, seed: int) -> Outcome:
        """See :meth:`.Immediate.score_with`: one of the cell's trainings, if that is asked for."""
        rung = -1 if rung is None else rung
        found = self.score_at(source, architecture, rung)
        if self._single is None or self._epochs[rung] != table.EPOCHS:
            return found
        names = single_columns(self._config.problem)
        value = self._single.training(self._table.row(architecture), seed)
        changed: dict[str, Any] = dict.fromkeys(names, value)
        return replace(found, **changed)

    def columns(self, architecture: str) -> Mapping[str, Any]:
        """See :meth:`.Immediate.columns`: the rank among all cells, and the trainings of this."""
        row = self._table.row(architecture)
        rank = int(self._rank[row])
        return {"rank": rank} | ({"possible": self._single.count(row)} if self._single else {})

    def close(self) -> None:
        """End the contained processes."""
        self._reader.close()

    def _examined(self, source: str, reading: Reading, repair: bool) -> Examined:
        if reading.cell is None:
            written = Screened(reading.status, reading.failure)
        else:
            written = self._of(reading.cell)
        if not repair or written.status != "invalid" or not source:
            return Examined(source, written, written)
        from .reader.mend import mend  # not for a search whose sources are all canonical

        try:
            cell, repairs = mend(source)
        except NotACell:
            return Examined(source, written, written)
        return Examined(write.source(cell), self._of(cell), written, tuple(repairs))

    def _of(self, cell: cells.Cell) -> Screened:
        """Describe a cell without its scores."""
        if cell not in self._known:
            name = cells.architecture(cell)
            self._known[cell] = Screened(
                PENDING,
                canonical_sha256=hashlib.sha256(name.encode()).hexdigest(),
                descriptors=cells.describe(cell, self._dataset),
                built=True,
                architecture=name,
            )
        return self._known[cell]


def against(record: Record, benchmark: table.BenchmarkTable) -> Iterator[Difference]:
    """Yield where scores of NAS-Bench-201 differ from the benchmark's table.

    The cell is the one that the source spells; a source that is not canonical is traced in a
    contained child. Raises :class:`DataError` for another table than the run's.
    """
    config = from_tables(record.config, "run.h5")
    problem = config.problem
    known = record.environment.get("benchmark", {}).get("table_sha256")
    if known is None:
        raise DataError(f"{benchmark.path}: the run is none of NAS-Bench-201; leave --table out")
    if known != benchmark.digest:
        raise DataError(
            f"{benchmark.path}: not the table of this run, whose SHA-256 begins with {known[:12]} "
            f"and not with {benchmark.digest[:12]}"
        )
    columns, accuracies = record.candidates, benchmark.datasets[problem.dataset]
    *rungs, scores = (accuracies.scores(problem, epochs) for epochs in epochs_of(problem))
    scored = np.flatnonzero(np.isin(columns["status"], (b"scored", b"stopped"))).tolist()
    single = () if problem.table_trainings == "mean" else single_columns(problem)
    with CellReader(config.containment) as reader:
        readings = reader.read([columns["source"][row] for row in scored])
    for row, reading in zip(scored, readings, strict=True):
        where, name = f"candidate {row}", columns["architecture"][row]
        is_cell = reading.cell is not None
        spelled = cells.architecture(reading.cell) if is_cell else f"no cell ({reading.failure})"
        if spelled != name:
            yield Difference(where, f"architecture is {name}, its source spells {spelled}")
            continue
        at = benchmark.row(name)
        found = [(f"rung {r}", columns["rung_scores"][row, r], one["fitness"][at])
                 for r, one in enumerate(rungs)]  # fmt: skip
        if columns["status"][row] == b"scored":
            here = {name: values[at] for name, values in scores.items()}
            if single:
                value = accuracies.training(at, int(columns["seed"][row]))
                here |= dict.fromkeys(single, value)
            found += [(name, columns[name][row], value) for name, value in here.items()]
        for name, there, here in found:
            if float(there) != float(here):
                yield Difference(where, f"{name} is {there}, the table says {here}")
