"""A run's record in memory: columns as arrays that grow a generation at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import PENDING
from . import schema

PROPOSED = "proposed"
"""The code of a generation is written, its results are not in."""

EVALUATED = "evaluated"
"""Every generation so far has its results."""


@dataclass(frozen=True)
class ArchiveState:
    """An archive as it stands: cells (K, D) in the unit cube, and who lives in them."""

    axes: tuple[str, ...]
    """Labels for people."""
    names: tuple[str, ...]
    """Names of the measured values that are the axes."""
    scales: tuple[str, ...]
    """Scales of the axes, ``linear`` or ``log``; empty: as the settings of a record of 0.1 say."""
    centroids: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    elite: NDArray[np.int64]
    fitness: NDArray[np.float64]
    curiosity: NDArray[np.float64]


@dataclass
class Record:
    """Everything that run.h5 holds. The coordinator changes it, ``store.commit`` writes it."""

    run_id: str
    config: dict[str, Any]
    environment: dict[str, Any]
    prompts: tuple[str, ...]
    archives: dict[str, ArchiveState]
    phase: str = EVALUATED
    committed_generations: int = 0
    """Generations with results. One more is in flight while the phase is ``proposed``."""
    candidates: dict[str, NDArray[Any]] = field(default_factory=dict)
    history: dict[str, NDArray[Any]] = field(default_factory=dict)
    _roomy: dict[tuple[int, str], NDArray[Any]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """By table and column: the longer array that a column is the beginning of."""

    _indexed: int = field(default=0, repr=False)
    _by_digest: dict[bytes, list[int]] = field(default_factory=dict, repr=False)
    _architectures: set[str] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        for column in schema.CANDIDATES:
            self.candidates.setdefault(column.name, column.empty(0, axes=len(self.axes)))
        for column in schema.HISTORY:
            self.history.setdefault(column.name, column.empty(0, prompts=len(self.prompts)))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the measured values that are the axes of the network archive."""
        return self.archives["network"].names

    @property
    def rows(self) -> int:
        """Candidates so far, those in flight included."""
        return len(self.candidates["generation"])

    @property
    def prompt_fitness(self) -> NDArray[np.float64]:
        """Collective fitness of every prompt."""
        collective = self.history["collective"]
        return collective[-1] if len(collective) else np.zeros(len(self.prompts))

    def append_candidates(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """New candidates; what a row does not say keeps the column's fill value."""
        self._append(self.candidates, schema.CANDIDATES, rows)

    def append_history(self, row: Mapping[str, Any]) -> None:
        """A generation's own row."""
        self._append(self.history, schema.HISTORY, [row])

    def update(self, candidate: int, values: Mapping[str, Any]) -> None:
        """Columns of one candidate by name."""
        for name, value in values.items():
            column = self.candidates[name]
            column[candidate] = _fit(value, column)

    def rows_with(self, canonical_sha256: str) -> Sequence[int]:
        """Find the candidates with a digest of their canonical form, the first ones first."""
        self._index()
        return self._by_digest.get(canonical_sha256.encode(), ())

    @property
    def architectures(self) -> Set[str]:
        """Names of all architectures so far, where the problem has names."""
        self._index()
        return self._architectures

    def _index(self) -> None:
        """Take rows into the indices that are not in them yet: digests and names never change."""
        table = self.candidates
        for row in range(self._indexed, self.rows):
            self._by_digest.setdefault(bytes(table["canonical_sha256"][row]), []).append(row)
            self._architectures.add(table["architecture"][row])
        self._indexed = self.rows

    def out(self) -> list[int]:
        """Candidates that have no result yet."""
        found: list[int] = np.flatnonzero(self.candidates["status"] == PENDING.encode()).tolist()
        return found

    def texts(self, name: str, rows: Iterable[int]) -> list[str]:
        """A fixed-length text column as strings."""
        column = self.candidates[name]
        return [v.decode("utf-8", "replace") if isinstance(v := column[r], bytes) else v
                for r in rows]  # fmt: skip

    def status(self, candidate: int) -> str:
        """Status of one candidate."""
        return bytes(self.candidates["status"][candidate]).decode()

    def _append(
        self,
        table: dict[str, NDArray[Any]],
        columns: Sequence[schema.Column],
        rows: Sequence[Mapping[str, Any]],
    ) -> None:
        names = {column.name for column in columns}
        if unknown := {key for row in rows for key in row if key not in names}:
            raise KeyError(f"no such columns: {sorted(unknown)}")
        start = len(table[columns[0].name])
        total = start + len(rows)
        for column in columns:
            old, roomy = table[column.name], self._roomy.get((id(table), column.name))
            if roomy is None or old.base is not roomy or len(roomy) < total:
                roomy = self._enlarged(table, column, len(rows))
            table[column.name] = roomy[:total]
        for position, row in enumerate(rows, start):
            for name, value in row.items():
                table[name][position] = _fit(value, table[name])

    def _enlarged(
        self, table: dict[str, NDArray[Any]], column: schema.Column, rows: int
    ) -> NDArray[Any]:
        """A copy of a column with at least ``rows`` more of its fill value."""
        old = table[column.name]
        fresh = column.empty(
            max(len(old), 64) + rows, prompts=len(self.prompts), axes=len(self.axes)
        )
        roomy = self._roomy[id(table), column.name] = np.concatenate([old, fresh])
        return roomy


def clean(text: str) -> str:
    """Text that HDF5 can hold: no NUL, no lone surrogate. A model writes both at last."""
    if text.isascii() and "\x00" not in text:
        return text
    text = text.replace("\x00", "\N{SYMBOL FOR NULL}")
    return text.encode("utf-8", "replace").decode("utf-8")


def _fit(value: Any, column: NDArray[Any]) -> Any:
    """A value as the column holds it; short rows of a wide column keep its fill value."""
    if isinstance(value, str):
        text = clean(value)
        if column.dtype.kind != "S":
            return text
        data = text.encode("ascii", "replace")
        if len(data) > column.dtype.itemsize:  # numpy would cut it without a word
            data = data[: column.dtype.itemsize - 3] + b"..."
        return data
    if isinstance(value, tuple) and column.ndim == 2:
        return value + (-1,) * (column.shape[1] - len(value))
    return value
