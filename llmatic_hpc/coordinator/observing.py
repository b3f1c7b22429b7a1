"""Listeners to a run: what is told of its stages, progress and results."""

from __future__ import annotations

import logging
from typing import Protocol

from ..store import Record

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Listener to a run: is told of stages, progress and results. What it leaves out is not told.

    A progress bar need not derive from it.
    """

    def notice(self, text: str) -> None:
        """Something a person should know."""
        return

    def stage(self, generation: int, name: str, total: int) -> None:
        """``generated``, ``screened`` or ``trained`` begins, of ``total`` candidates."""
        return

    def waits(self, what: str) -> None:
        """Something is waited for: while results are, where their tasks stand, said every look."""
        return

    def advance(self, name: str, count: int = 1, *, tokens: int = 0) -> None:
        """So many more candidates are through the stage, for which ``tokens`` were written."""
        return

    def scored(self, candidate: int, fitness: float) -> None:
        """A candidate has a fitness."""
        return

    def generation_done(self, record: Record) -> None:
        """The last row of the history is committed."""
        return


class Silent(Observer):
    """An observer that tells notices to the log and nothing else."""

    def notice(self, text: str) -> None:
        """Log it."""
        log.warning(text)
