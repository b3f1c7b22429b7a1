"""The budget of a run: whether it is spent when a generation has ended."""

from __future__ import annotations

from ..config import SearchSettings
from ..search import Search
from ..store import Record, hours, promotion, rows
from ..store.record import EVALUATED


class Budget:
    """Generations, queries, full trainings and hours that a run may take."""

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
        if hours.spent(record, search.network_archive.elites):
            return True
        return record.committed_generations >= settings.generations

    def last_words(self, record: Record, search: Search) -> str:
        """Say that a run ended for its cost; empty where it did not."""
        budget = self._settings.budget
        if record.committed_generations >= self._settings.generations:
            return ""
        after = f"after generation {record.committed_generations}"
        said = []
        if budget and (spent := promotion.cost(record)) >= budget:
            said.append(f"search.budget is spent: {spent:.2f} of {budget:g} full trainings {after}")
        said += [
            f"{one.setting} is spent: {one} {after}; the same command with more of it goes on"
            for one in hours.spent(record, search.network_archive.elites)
        ]
        return ". ".join(said)
