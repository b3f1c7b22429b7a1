"""The budget of a run: whether it is spent when a generation has ended."""

from __future__ import annotations

from ..config import SearchSettings
from ..search import Search
from ..store import Record, promotion, rows
from ..store.record import EVALUATED


class Budget:
    """Generations, queries and full trainings that a run may take."""

    def __init__(self, search: SearchSettings) -> None:
        self._settings = search
        self._enough_rows = 0
        """Candidates from which on the budget of queries may be spent."""

    def is_spent(self, record: Record, search: Search) -> bool:
        """Return whether any of them is spent; ``search`` has been told all of the record."""
        settings = self._settings
        if settings.queries and record.phase == EVALUATED and record.rows >= self._enough_rows:
            missing = settings.queries - rows.queries(record)
            if missing <= 0:
                return True
            # Counting takes time: not again before there may be enough.
            self._enough_rows = record.rows + missing - len(record.out())
        if settings.budget and record.phase == EVALUATED:
            spent = promotion.committed_cost(record, search.network_archive.elites)
            if spent >= settings.budget:
                return True
        return record.committed_generations >= settings.generations

    def last_words(self, record: Record) -> str:
        """Say that a run ended for its cost; empty where it did not."""
        budget = self._settings.budget
        if not budget or record.committed_generations >= self._settings.generations:
            return ""
        spent = promotion.cost(record)
        if spent < budget:
            return ""
        return (
            f"search.budget is spent: {spent:.2f} of {budget:g} full trainings after generation "
            f"{record.committed_generations}"
        )
