"""Progress of a run: bars on a terminal, plain lines everywhere else.

:class:`Lines` and :class:`Bars` are observers of the coordinator, which says what each of their
methods is told.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress
from rich.console import Console

from ..store import Record, repeats
from .status import best_candidate, generation_line

log = logging.getLogger(__name__)

STAGES = ("generated", "screened", "trained")
PLAIN_SECONDS = 20.0
"""Pause between two lines of the same stage in a log."""


@contextmanager
def observer(generations: int) -> Iterator[Lines | Bars]:
    """Hold the observer of a run: bars if standard error is a terminal, else lines."""
    if not sys.stderr.isatty():
        yield Lines(generations)
        return
    bars = Bars(generations)
    with bars.progress:
        yield bars


class _Standing:
    """State that lines and bars share: the best fitness so far and the pace of a stage."""

    def __init__(self, generations: int) -> None:
        self._generations = generations
        self._fitness, self._candidate = float("-inf"), -1
        self._begin(0)

    def _begin(self, generation: int) -> None:
        self._title = f"generation {generation + 1}/{self._generations}"
        self._began, self._tokens = time.monotonic(), 0

    @property
    def best(self) -> str:
        """The best fitness of the run so far, in words."""
        if self._candidate < 0:
            return "best none yet"
        return f"best {self._fitness:.4f} (candidate {self._candidate})"

    @property
    def pace(self) -> str:
        """Tokens per second since the stage began; empty where none are counted."""
        seconds = time.monotonic() - self._began
        return f"{self._tokens / seconds:.0f} tokens/s, " if self._tokens and seconds > 0 else ""

    def scored(self, candidate: int, fitness: float) -> None:
        # Results come in any order; of equals the first candidate is the best, as in the record.
        if (fitness, -candidate) > (self._fitness, -self._candidate):
            self._fitness, self._candidate = fitness, candidate

    def knows(self, record: Record) -> None:
        """Take over the best of a run that is continued."""
        if (best := best_candidate(record)) is not None:
            self.scored(best, float(repeats.scored(record).mean[best]))

    def notice(self, text: str) -> None:
        log.info(text)
        self.show(text)

    def show(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def generation_done(self, record: Record) -> None:
        self.notice(generation_line(record))


class Lines(_Standing):
    """A line for every event that matters; a stage speaks every twenty seconds and at its end."""

    def stage(self, generation: int, name: str, total: int) -> None:
        self._begin(generation)
        self._done, self._total, self._spoke = 0, total, self._began

    def advance(self, name: str, count: int = 1, *, tokens: int = 0) -> None:
        self._done += count
        self._tokens += tokens
        if self._done == self._total or time.monotonic() - self._spoke > PLAIN_SECONDS:
            self._spoke = time.monotonic()
            self.notice(f"{self._title}: {name} {self._done}/{self._total}, {self.pace}{self.best}")


class Bars(_Standing):
    """A bar for each stage of the generation in flight, the best so far beside it."""

    def __init__(self, generations: int) -> None:
        super().__init__(generations)
        self._tasks: dict[str, progress.TaskID] = {}
        self.progress = progress.Progress(
            progress.TextColumn("{task.description:>12}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )

    def show(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, markup=False)

    def stage(self, generation: int, name: str, total: int) -> None:
        self._begin(generation)
        for old in list(self._tasks) if name == STAGES[0] else [name]:
            if old in self._tasks:
                self.progress.remove_task(self._tasks.pop(old))
        note = f"{self._title}, {self.best}"
        self._tasks[name] = self.progress.add_task(name, total=total, note=note)

    def advance(self, name: str, count: int = 1, *, tokens: int = 0) -> None:
        self.progress.advance(self._tasks[name], count)
        if tokens:
            self._tokens += tokens
            note = f"{self._title}, {self.pace}{self.best}"
            self.progress.update(self._tasks[name], note=note)

    def scored(self, candidate: int, fitness: float) -> None:
        before = self.best
        super().scored(candidate, fitness)
        if self.best != before:
            for task in self._tasks.values():
                self.progress.update(task, note=self.best)
