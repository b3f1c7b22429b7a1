"""Attempts at candidates in absolute times: waiting, running, again and why."""

from __future__ import annotations

from typing import Any

from ...store import Record
from .plain import numbers

MOST = 3000
"""Attempts that the page shows; of more the last ones."""


def timeline(record: Record) -> dict[str, Any] | None:
    """Return the table of attempts by column; None for a run that has none on its record.

    Times are seconds since 1970 with milliseconds; None where one is not known.
    """
    table = getattr(record, "attempts", None)
    if table is None or not table.rows:
        return None
    last = slice(max(0, table.rows - MOST), None)
    found = {
        name: [None if value != value else round(value, 3) for value in table[name][last].tolist()]
        for name in ("submitted", "start", "end")
    }
    return {
        **found,
        **{name: numbers(table[name][last]) for name in ("candidate", "attempt", "rung")},
        **{name: numbers(table[name][last]) for name in ("job", "node", "ending")},
        "left_out": max(0, table.rows - MOST),
    }
