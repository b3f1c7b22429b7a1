"""The budget of a run: whether it is spent when a generation has ended."""

from __future__ import annotations

from ..config import SearchSettings
from ..store import Record, rows
from ..store.record import EVALUATED


class Budget:
    """Generations and queries that a run may take."""

    def __init__(self, search: SearchSettings) -> None:
        self._search = search
        self._enough_rows = 0
        """Candidates from which on the budget of queries may be spent."""

    def is_spent(self, record: Record) -> bool:
        """Return whether the budget of generations or of queries is spent."""
        search = self._search
        if search.queries and record.phase == EVALUATED and record.rows >= self._enough_rows:
            missing = search.queries - rows.queries(record)
            if missing <= 0:
                return True
            # Counting takes time: not again before there may be enough.
            self._enough_rows = record.rows + missing - len(record.out())
        return record.committed_generations >= search.generations
