"""Accounts of a run: where its hours and tokens went, and what came of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...store import Record
from ...store.hours import device_unit, part
from ...types import NO_PROMPT
from ..rates import STEP
from ..status import hours
from .plain import number

REFUSED = (b"invalid", b"forbidden", b"")
"""Statuses of what could not be trained as it was."""


def paid(record: Record) -> dict[str, Any]:
    """Return hours by what they went into, and counts by prompt, temperature and writer."""
    table = record.candidates
    temperature = np.rint(table["temperature"] / STEP)
    return {
        "hours": {name: number(value) for name, value in hours(record).items()},
        "unit": device_unit(record),
        "total": _counts(record, np.ones(record.rows, dtype=bool)),
        "groups": {
            "prompt": [{"name": name, **_counts(record, rows)} for name, rows in _prompts(record)],
            "temperature": [
                {"name": f"{step * STEP:.1f}", **_counts(record, temperature == step)}
                for step in np.unique(temperature[np.isfinite(temperature)]).tolist()
            ],
            "writer": [{"name": name, **_counts(record, rows)} for name, rows in _writers(record)],
            "operator": [
                {"name": name.decode(), **_counts(record, table["operator"] == name)}
                for name in np.unique(table["operator"]).tolist()
            ],
        },
    }


def _counts(record: Record, rows: NDArray[np.bool_]) -> dict[str, Any]:
    """Count what became of the candidates in ``rows``, each count among those before it."""
    table = record.candidates
    hours_of = float(np.nansum(table["train_seconds"][rows])) / 3600 * part(record)
    rows = rows & ~record.are_repeats  # nothing is written for one, but it takes its hours
    valid = rows & ~np.isin(table["status"], REFUSED) & (table["canonical_sha256"] != b"")
    # Of what was passed over the verdict is gone; what fits was measured.
    valid &= (table["status"] != b"passed_over") | np.isfinite(table["descriptors"]).any(axis=1)
    new = valid & (table["duplicate_of"] < 0) & (table["status"] != b"passed_over")
    trained = new & (table["attempts"] > 0)
    return {
        "written": int(rows.sum()),
        "valid": int(valid.sum()),
        "new": int(new.sum()),
        "trained": int(trained.sum()),
        "accepted": int((rows & (table["network_added"] >= 1)).sum()),
        "tokens": int(table["tokens"][rows].sum())
        + sum(one["tokens"] for told in table["earlier"][rows] if told for one in json.loads(told)),
        "hours": number(hours_of),
    }


def _prompts(record: Record) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    prompts = record.candidates["prompt"]
    for number_of, text in (*enumerate(record.prompts), (NO_PROMPT, "none (crossover, random)")):
        if (rows := prompts == number_of).any():
            yield (f"{number_of}: {text}" if number_of >= 0 else text), rows


def _writers(record: Record) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the writers of a run with their candidates; one for all where none are named."""
    if "writer" in record.candidates and (record.candidates["writer"] != b"").any():
        column = record.candidates["writer"]
        for name in np.unique(column).tolist():
            text = name.decode() if isinstance(name, bytes) else str(name)
            yield text or "not named", column == name
    else:
        name = str(record.environment.get("generator") or "nothing yet")
        yield name, np.ones(record.rows, dtype=bool)
