"""Progress of a run: bars on a terminal, plain lines everywhere else.

:class:`Lines` and :class:`~.bars.Bars` are observers of the coordinator, which says what each of
their methods is told.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..store import Record, repeats
from ..store.rows import queries
from .lines import best_candidate, generation_line

if TYPE_CHECKING:
    from .bars import Bars

log = logging.getLogger(__name__)

STAGES = ("generated", "screened", "trained")
PLAIN_SECONDS = 20.0
"""Pause between two lines of the same stage in a log."""
SAME_SECONDS = 300.0
"""Pause between two lines that say the same: whoever reads a log sees that it still goes on."""


@contextmanager
def observer(generations: int, queries: int = 0) -> Iterator[Lines | Bars]:
    """Hold the observer of a run: bars if standard error is a terminal, else lines.

    A run of so many ``generations``, or of so many ``queries`` where they are its budget.
    """
    if not sys.stderr.isatty():
        yield Lines(generations, queries)
        return
    from .bars import Bars  # loads rich, which a log does without

    bars = Bars(generations, queries)
    with bars.progress:
        yield bars


class Standing:
    """State that lines and bars share: the best fitness so far, the pace of a stage, its wait."""

    def __init__(self, generations: int, queries: int = 0) -> None:
        self._generations, self._queries = generations, queries
        self._fitness, self._candidate, self._spent = float("-inf"), -1, 0
        self._generation = self._done = self._total = 0
        self._stage = self._where = ""
        self._began, self._tokens = time.monotonic(), 0

    def stage(self, generation: int, name: str, total: int) -> None:
        self._generation, self._stage = generation, name
        self._done, self._total, self._where = 0, total, ""
        self._began, self._tokens = time.monotonic(), 0

    @property
    def title(self) -> str:
        """Name of what counts: the generation, or the queries where they are the budget."""
        if self._queries:
            return f"queries {self._spent}/{self._queries}"
        return f"generation {self._generation + 1}/{self._generations}"

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

    @property
    def is_waiting(self) -> bool:
        """True while results are out, which may take longer than anything else."""
        return self._stage == "trained" and self._done < self._total

    def waits(self, what: str) -> None:
        if self.is_waiting:
            self._where = what
        else:
            self.notice(what)

    def scored(self, candidate: int, fitness: float) -> None:
        self._spent += 1
        self._is_better(candidate, fitness)

    def _is_better(self, candidate: int, fitness: float) -> None:
        # Results come in any order; of equals the first candidate is the best, as in the record.
        if (fitness, -candidate) > (self._fitness, -self._candidate):
            self._fitness, self._candidate = fitness, candidate

    def knows(self, record: Record) -> None:
        """Take over the best and the queries of a run that is continued."""
        self._spent = queries(record)
        if (best := best_candidate(record)) is not None:
            self._is_better(best, float(repeats.scored(record).mean[best]))

    def notice(self, text: str) -> None:
        log.info(text)
        self.show(text)

    def show(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def generation_done(self, record: Record) -> None:
        self._spent = queries(record)
        self.notice(generation_line(record))


class Lines(Standing):
    """A line for every event that matters; a stage speaks every twenty seconds and at its end.

    While nothing changes it speaks every five minutes.
    """

    _said: tuple[int, str] = (0, "")

    def stage(self, generation: int, name: str, total: int) -> None:
        super().stage(generation, name, total)
        self._spoke, self._said = self._began, (0, "")

    def advance(self, name: str, count: int = 1, *, tokens: int = 0) -> None:
        self._done += count
        self._tokens += tokens
        if self._done == self._total or time.monotonic() - self._spoke > PLAIN_SECONDS:
            self._speak()

    def waits(self, what: str) -> None:
        super().waits(what)
        if self.is_waiting:
            is_new = self._said != (self._done, self._where)
            pause = PLAIN_SECONDS if is_new else SAME_SECONDS
            if time.monotonic() - self._spoke > pause:
                self._speak()

    def _speak(self) -> None:
        self._spoke, self._said = time.monotonic(), (self._done, self._where)
        text = f"{self._stage} {self._done}/{self._total}"
        if self.is_waiting:
            where = f" ({self._where})" if self._where else ""
            text = f"waiting for {self._total - self._done} of {self._total} results{where}"
        self.notice(f"{self.title}: {text}, {self.pace}{self.best}")
