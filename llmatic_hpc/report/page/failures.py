"""Failures by reason, with a few examples each."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from ...store import Record

UNSCORED = ("invalid", "forbidden", "diverged", "too_large", "too_slow", "infrastructure")
EXAMPLES = 3
"""Candidates of each reason that are shown with all that was written for them."""
MOST = 40
"""Reasons that are told apart; the rarer ones are counted together."""
LENGTH = 160
"""Characters of a reason by which reasons are told apart."""


def failures(record: Record) -> list[dict[str, Any]]:
    """Return reasons, the commonest first, each with its status, count and examples.

    Numbers and quoted names are left out of a reason: ``expected 'x' at 12`` and ``expected 'y' at
    7`` are one.
    """
    table, found = record.candidates, defaultdict[tuple[str, str], list[int]](list)
    statuses = {name.encode(): name for name in UNSCORED}
    for row, status in enumerate(table["status"].tolist()):
        if status in statuses:
            found[statuses[status], reason(str(table["failure"][row]))].append(row)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    told = [
        {
            "status": status,
            "reason": why,
            "count": len(rows),
            "examples": [
                {"candidate": row, "failure": str(table["failure"][row])[:1000]}
                for row in rows[:EXAMPLES]
            ],
        }
        for (status, why), rows in ordered[:MOST]
    ]
    if rest := sum(len(rows) for _, rows in ordered[MOST:]):
        why = f"{len(ordered) - MOST} rarer reasons"
        told.append({"status": "", "reason": why, "count": rest, "examples": []})
    return told


def reason(failure: str) -> str:
    """Return what is the same in failures of one kind."""
    text = re.sub(r"'[^']{0,200}'|\"[^\"]{0,200}\"", "…", failure)
    text = re.sub(r"\d[\d.,xe+-]*", "#", text)
    return text[:LENGTH] or "no reason is on the record"
