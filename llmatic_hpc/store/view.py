"""A record for reading: tables of columns that turn into arrays or a data frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Config, from_tables
from ..rundir.paths import RunPaths
from . import schema
from .file import load
from .record import ArchiveState, Record


class Table(dict[str, NDArray[Any]]):
    """Columns by name, each an array with a row per candidate or per generation.

    Texts are Python strings; ``units`` and ``meaning`` say what a column holds.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]], known: tuple[schema.Column, ...]):
        for name, values in columns.items():
            self[name] = np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
        self.units = {column.name: column.units for column in known}
        self.meaning = {column.name: column.long_name for column in known}

    def to_pandas(self) -> Any:
        """Make a ``pandas.DataFrame``; a column with several values a row becomes one of lists.

        Raises ``ImportError`` where pandas is not installed (the extra ``analysis``).
        """
        import pandas

        return pandas.DataFrame(
            {name: values.tolist() if values.ndim > 1 else values for name, values in self.items()}
        )


@dataclass(frozen=True)
class Run:
    """A run as its record has it: settings, candidates, history and archives."""

    record: Record
    candidates: Table
    """A row per candidate; its number is its row."""
    history: Table
    """A row per generation."""

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return from_tables(self.record.config, "run.h5")

    @property
    def network_archive(self) -> ArchiveState:
        """Cells of the network archive with their elites, ``-1`` where a cell is empty."""
        return self.record.archives["network"]

    @property
    def prompt_archive(self) -> ArchiveState:
        """Cells of the prompt archive with their elites."""
        return self.record.archives["prompt"]

    @property
    def elites(self) -> NDArray[np.int64]:
        """Candidates (num_elites,) that are elites of the network archive, the fittest first."""
        archive = self.network_archive
        occupied = np.flatnonzero(archive.elite >= 0)
        return archive.elite[occupied[np.argsort(-archive.fitness[occupied], kind="stable")]]


def read(path: str | Path) -> Run:
    """Read the record of a run: its directory, or the file ``run.h5``. Needs no lock.

    Raises :class:`~llmatic_hpc.errors.RecordError` where there is none or it is damaged.
    """
    path = Path(path)
    record = load(RunPaths(path).record if path.is_dir() else path)
    candidates = Table(record.candidates, schema.CANDIDATES)
    return Run(record, candidates, Table(record.history, schema.HISTORY))
