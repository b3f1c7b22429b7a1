"""A run's record in memory: columns as arrays that grow a generation at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence, Set
from dataclasses import InitVar, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import PENDING, REPEAT
from . import schema

PROPOSED = "proposed"
"""The code of a generation is written, its results are not in."""

EVALUATED = "evaluated"
"""Every generation so far has its results."""

_LONG = (str, tuple)
"""Values that a column may be too narrow for, or too wide."""

Known = Mapping[str, NDArray[Any]]
"""Columns by name that a record begins with."""


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
    rung: NDArray[np.int64] | None = None
    """Rung at which each fitness was measured; None where there are no rungs."""
    trainings: NDArray[np.int64] | None = None
    """Trainings over which each fitness is the mean; None where no network has several."""


class Columns(MutableMapping[str, NDArray[Any]]):
    """Columns of one length by name: views (rows, ...) of longer arrays, so that rows are cheap.

    Begins with ``known``; a column that is not in it is made of its fill value.
    """

    def __init__(
        self,
        columns: Sequence[schema.Column],
        known: Mapping[str, NDArray[Any]],
        *,
        prompts: int,
        axes: int,
        rungs: int,
    ) -> None:
        self.rows = len(known[columns[0].name]) if columns[0].name in known else 0
        self._columns = {column.name: column for column in columns}
        self._widths = {"prompts": prompts, "axes": axes, "rungs": rungs}
        self._room = self.rows
        self._arrays = {c.name: c.empty(self.rows, **self._widths) for c in columns} | dict(known)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name][: self.rows]

    def __setitem__(self, name: str, values: NDArray[Any]) -> None:
        self._arrays[name] = self._enlarged(name, values)

    def __delitem__(self, name: str) -> None:
        raise TypeError("a record keeps all of its columns")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows; what a row does not say keeps the column's fill value."""
        start, total = self.rows, self.rows + len(rows)
        if total > self._room:
            self._room = total + max(start, 64)
            self._arrays = {name: self._enlarged(name, self[name]) for name in self}
        self.rows = total
        for position, row in enumerate(rows, start):
            self.update_row(position, row)

    def update_row(self, position: int, values: Mapping[str, Any]) -> None:
        """Change columns of one row."""
        arrays = self._arrays
        for name, value in values.items():
            column = arrays[name]
            column[position] = _fit(value, column) if isinstance(value, _LONG) else value

    def _enlarged(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """Fill values up to the length of all columns."""
        fill = self._columns[name].empty(self._room - len(values), **self._widths)
        return np.concatenate([values, fill])


@dataclass
class Record:
    """Everything that run.h5 holds. The coordinator changes it, ``store.commit`` writes it."""

    run_id: str
    config: dict[str, Any]
    environment: dict[str, Any]
    prompts: tuple[str, ...]
    """Texts by index: the problem's own, then those that a model wrote, the first ones first."""
    archives: dict[str, ArchiveState]
    phase: str = EVALUATED
    committed_generations: int = 0
    """Generations with results. One more is in flight while the phase is ``proposed``."""
    data_sha256: str = ""
    """Digest of the data that candidates are scored on; empty where none is known."""
    alive_seconds: float = field(default=0.0, compare=False)
    """Time that its coordinators were alive, up to the last commit."""
    updated: str = field(default="", compare=False)
    """Time of the commit that it was loaded from, ISO 8601; empty: it was not loaded."""
    task: dict[str, Any] = field(default_factory=dict)
    """Facts that requests and tries are made of beyond the settings; empty: none are needed."""
    rungs: tuple[int, ...] = ()
    """Epochs of the rungs, the last a full training; empty: all are trained in full at once."""
    known: InitVar[Sequence[Known]] = ()
    """Columns of the candidates, history, attempts and rewritings so far; empty where left out."""
    candidates: Columns = field(init=False)
    history: Columns = field(init=False)
    attempts: Columns = field(init=False)
    rewritings: Columns = field(init=False)

    _indexed: int = field(default=0, repr=False)
    _counted: tuple[int, int] = field(default=(0, 0), repr=False)
    """So many candidates from the first on have so many completions."""
    _settled: int = field(default=0, repr=False)
    """Candidates from the first on that are known to have results."""
    _by_digest: dict[bytes, list[int]] = field(default_factory=dict, repr=False)
    _architectures: set[str] = field(default_factory=set, repr=False)

    def __post_init__(self, known: Sequence[Known]) -> None:
        tables = [*known, {}, {}, {}, {}][:4]
        widths = {"prompts": 0, "axes": len(self.axes), "rungs": len(self.rungs)}
        self.rewritings = Columns(schema.REWRITINGS, tables[3], **widths)
        search = self.config.get("search", {})
        spare = int(search["prompt_rows"]) if self.evolves else 0
        widths["prompts"] = self.own_prompts + spare
        self.candidates = Columns(schema.CANDIDATES, tables[0], **widths)
        self.history = Columns(schema.HISTORY, tables[1], **widths)
        self.attempts = Columns(schema.ATTEMPTS, tables[2], **widths)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the measured values that are the axes of the network archive."""
        return self.archives["network"].names

    @property
    def has_challenges(self) -> bool:
        """True where networks may be trained again."""
        return bool(self.config["search"].get("challenge", 0))

    @property
    def evolves(self) -> bool:
        """True where a model rewrites prompts."""
        return bool(self.config.get("search", {}).get("prompts") == "evolve")

    @property
    def own_prompts(self) -> int:
        """Number of the problem's own prompts; those that a model wrote come after them."""
        return len(self.prompts) - int((self.rewritings["prompt"] >= 0).sum())

    @property
    def are_repeats(self) -> NDArray[np.bool_]:
        """Candidates (N,) that are further trainings of an earlier one's network."""
        return np.asarray(self.candidates["operator"] == REPEAT.encode())

    @property
    def completions(self) -> int:
        """Completions so far, those that were not kept included."""
        table, (first, known) = self.candidates, self._counted
        if first < self.rows:  # rows say at once how often they were sampled
            known += int((table["operator"][first:] != REPEAT.encode()).sum())
            known += int(table["resampled"][first:].sum() + table["retries"][first:].sum())
            self._counted = self.rows, known
        return known

    @property
    def rows(self) -> int:
        """Candidates so far, those in flight included."""
        return self.candidates.rows

    @property
    def prompt_fitness(self) -> NDArray[np.float64]:
        """Collective fitness of every prompt; of one that gave way to another, as it was then."""
        collective, new = self.history["collective"], self.rewritings
        if not len(collective):
            return np.zeros(len(self.prompts))
        own = self.own_prompts
        found = np.zeros(len(self.prompts))
        found[:own] = collective[-1, :own]
        for taken in np.flatnonzero(new["prompt"] >= 0).tolist():
            prompt, row = int(new["prompt"][taken]), int(new["row"][taken])
            gone = new["generation"][new["replaced"] == prompt]
            last = int(gone[0]) if len(gone) else len(collective)
            if new["generation"][taken] < len(collective):  # else it has just come
                found[prompt] = collective[last - 1, row]
        return found

    def append_candidates(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """New candidates; what a row does not say keeps the column's fill value."""
        self.candidates.append(rows)

    def update(self, candidate: int, values: Mapping[str, Any]) -> None:
        """Columns of one candidate by name."""
        self.candidates.update_row(candidate, values)

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
            if table["status"][row] != b"passed_over":  # it has no score, and never will
                self._architectures.add(table["architecture"][row])
        self._indexed = self.rows

    def out(self) -> list[int]:
        """Candidates that have no result yet."""
        status = self.candidates["status"][self._settled :]
        found: list[int] = (np.flatnonzero(status == PENDING.encode()) + self._settled).tolist()
        self._settled = found[0] if found else self.rows
        return found

    def status(self, candidate: int) -> str:
        """Status of one candidate."""
        return bytes(self.candidates["status"][candidate]).decode()


def clean(text: str) -> str:
    """Text that HDF5 can hold: no NUL, no lone surrogate. A model writes both at last."""
    if text.isascii() and "\x00" not in text:
        return text
    text = text.replace("\x00", "\N{SYMBOL FOR NULL}")
    return text.encode("utf-8", "replace").decode("utf-8")


def _fit(value: str | tuple[Any, ...], column: NDArray[Any]) -> Any:
    """A text or a tuple as the column holds it; short rows of a wide column keep its fill value."""
    if isinstance(value, str):
        text, kind = clean(value), column.dtype
        if kind.kind != "S":
            return text
        data = text.encode("ascii", "replace")
        if len(data) > kind.itemsize:  # numpy would cut it without a word
            data = data[: kind.itemsize - 3] + b"..."
        return data
    if column.ndim == 2:
        return value + (-1,) * (column.shape[1] - len(value))
    return value
