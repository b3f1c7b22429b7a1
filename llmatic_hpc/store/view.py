"""A record for reading: tables of columns that turn into arrays or a data frame."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Config, from_tables
from ..errors import RecordError
from ..rundir.paths import RunPaths
from . import schema
from .file import load
from .fold import tessellations
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

        Raises ``ImportError`` where pandas is not installed (the extra ``pandas``).
        """
        pandas = _optional("pandas")
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

    def to_ribs(self, *, qd_score_offset: float = 0.0) -> Any:
        """Make a ``ribs.archives.CVTArchive`` of the network archive; nothing is lost.

        Measures are the descriptors as the search compares them: scaled to the unit cube, each
        axis by its bounds and its logarithm if it has one, and clipped. So centroids are the
        record's, ranges are 0 to 1, and pyribs finds the cell that the search found. Solutions are
        sources, objectives the fitness of the elites; the fields ``candidate``, ``descriptors``
        (D,), raw, and ``curiosity`` hold the rest, ``index`` the cell.

        Args:
            qd_score_offset: what pyribs subtracts from each objective before it adds them up.

        Raises:
            ImportError: pyribs is not installed (the extra ``ribs``).
            RecordError: an elite does not lie in its cell; ``llmatic verify`` says more.
        """
        archives, state = _optional("ribs.archives"), self.network_archive
        cells = np.flatnonzero(state.elite >= 0)
        elites, raw = state.elite[cells], self.candidates["descriptors"][state.elite[cells]]
        floats, axes = np.float64, len(state.names)
        made = archives.CVTArchive(
            solution_dim=(), solution_dtype=object, objective_dtype=floats, measures_dtype=floats,
            centroids=state.centroids, ranges=[(0.0, 1.0)] * axes,
            qd_score_offset=qd_score_offset,
            extra_fields={
                "candidate": ((), np.int64), "descriptors": ((axes,), floats),
                "curiosity": ((), floats),
            },
        )  # fmt: skip
        if len(cells):
            made.add(
                self.candidates["source"][elites],
                state.fitness[cells],
                tessellations(self.record, self.config)["network"].scale(raw)[0],
                candidate=elites, descriptors=raw, curiosity=state.curiosity[cells],
            )  # fmt: skip
        found = made.data(("candidate", "index"), return_type="tuple")
        if dict(zip(*found, strict=True)) != dict(zip(elites, cells, strict=True)):
            raise RecordError(
                "an elite does not lie in the cell that the record has it in: the record was "
                "damaged or edited; 'llmatic verify' says more"
            )
        return made


def read(path: str | Path) -> Run:
    """Read the record of a run: its directory, or the file ``run.h5``. Needs no lock.

    Raises :class:`~llmatic_hpc.errors.RecordError` where there is none or it is damaged.
    """
    path = Path(path)
    record = load(RunPaths(path).record if path.is_dir() else path)
    candidates = Table(record.candidates, schema.CANDIDATES)
    return Run(record, candidates, Table(record.history, schema.HISTORY))


def _optional(name: str) -> Any:
    """Import a module of an optional package. Raises ``ImportError`` that says how to get it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name != package:  # it is there, and lacks something itself
            raise
        raise ImportError(
            f"this wants {package}, which is not installed: pip install 'llmatic-hpc[{package}]', "
            f"or in a checkout pip install -e '.[{package}]'", name=package,
        ) from None  # fmt: skip
