"""Progress of a run: bars on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from ..store import Record
from .status import generation_line

STAGES = ("generated", "screened", "trained")
PLAIN_SECONDS = 20.0
"""Between two lines of the same stage in a log."""


class ProgressObserver(Protocol):
    """An observer of the coordinator that is also a context manager."""

    def __enter__(self) -> ProgressObserver: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def notice(self, text: str) -> None: ...

    def stage(self, generation: int, name: str, total: int) -> None: ...

    def advance(self, name: str, count: int = 1, *, tokens: int = 0) -> None: ...

    def scored(self, candidate: int, fitness: float) -> None: ...

    def generation_done(self, record: Record) -> None: ...


def observer(generations: int) -> ProgressObserver:
    """Bars if standard error is a terminal, else lines."""
    return Bars(generations) if sys.stderr.isatty() else Lines(generations)


class _Best:
    """The best fitness so far, by this process's own lights."""

    def __init__(self) -> None:
        self.fitness = float("-inf")
        self.candidate = -1

    def __str__(self) -> str:
        if self.candidate < 0:
            return "none yet"
        return f"{self.fitness:.4f} (candidate {self.candidate})"

    def offer(self, candidate: int, fitness: float) -> bool:
        if fitness <= self.fitness:
            return False
        self.fitness, self.candidate = fitness, candidate
        return True


class _Pace:
    """Tokens per second since a stage began; empty where none are counted."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._tokens = 0

    def __str__(self) -> str:
        seconds = time.monotonic() - self._began
        return f"{self._tokens / seconds:.0f} tokens/s, " if self._tokens and seconds > 0 else ""

    def count(self, tokens: int) -> None:
        self._tokens += tokens


class Lines:
    """One line per event that matters; a stage speaks every twenty seconds and at its end."""

    def __init__(self, generations: int) -> None:
        self._generations = generations
        self._best = _Best()
        self._totals: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._generation = 0
        self._pace = _Pace()
        self._spoke = 0.0

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def notice(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def stage(self, generation: int, name: str, total: int) -> None:
        self._generation, self._pace = generation, _Pace()
        self._totals[name], self._done[name] = total, 0
        self._spoke = time.monotonic()

    def advance(self, name: str, count: int = 1, *, tokens: int = 0) -> None:
        self._done[name] += count
        self._pace.count(tokens)
        done, total = self._done[name], self._totals[name]
        if done == total or time.monotonic() - self._spoke > PLAIN_SECONDS:
            self._spoke = time.monotonic()
            self.notice(
                f"generation {self._generation + 1}/{self._generations}: "
                f"{name} {done}/{total}, {self._pace}best {self._best}"
            )

    def scored(self, candidate: int, fitness: float) -> None:
        self._best.offer(candidate, fitness)

    def generation_done(self, record: Record) -> None:
        self.notice(generation_line(record))


class Bars:
    """A bar per stage of the generation in flight, the best so far beside it."""

    def __init__(self, generations: int) -> None:
        self._generations = generations
        self._best = _Best()
        self._tasks: dict[str, TaskID] = {}
        self._stage = ""
        self._pace = _Pace()
        self._progress = Progress(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def notice(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False)

    def stage(self, generation: int, name: str, total: int) -> None:
        if name == STAGES[0]:
            for task in self._tasks.values():
                self._progress.remove_task(task)
            self._tasks.clear()
        self._stage = f"generation {generation + 1}/{self._generations}, "
        self._pace = _Pace()
        note = f"{self._stage}best {self._best}"
        if name in self._tasks:
            self._progress.remove_task(self._tasks[name])
        self._tasks[name] = self._progress.add_task(name, total=total, note=note)

    def advance(self, name: str, count: int = 1, *, tokens: int = 0) -> None:
        self._progress.advance(self._tasks[name], count)
        if tokens:
            self._pace.count(tokens)
            note = f"{self._stage}{self._pace}best {self._best}"
            self._progress.update(self._tasks[name], note=note)

    def scored(self, candidate: int, fitness: float) -> None:
        if self._best.offer(candidate, fitness):
            for task in self._tasks.values():
                self._progress.update(task, note=f"best {self._best}")

    def generation_done(self, record: Record) -> None:
        self.notice(generation_line(record))
