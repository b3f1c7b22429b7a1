"""Texts that a click reaches: sources, completions and repairs of elites and their ancestors."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...store import Record

LONGEST = 20_000
"""Characters of a text that the page shows."""
SHORTEST = 500
"""Characters to which texts are cut at most."""
CHARACTERS = 20
"""Characters of a text that are cut where one entry of a list is."""
MOST_BYTES = 4_200_000
"""Bytes that the data of a page may come to, packed; in base64 they are a third more."""


def reached(record: Record, more: Iterable[int] = ()) -> NDArray[np.int64]:
    """Return the candidates, in order, that a click can reach with all that was written for them.

    They are those that were ever an elite of either archive, what they duplicate, ``more``, and
    every ancestor of these.
    """
    table = record.candidates
    wanted = (table["network_added"] >= 1) | (table["prompt_added"] >= 1)
    for archive in record.archives.values():
        wanted[archive.elite[archive.elite >= 0]] = True
    wanted[list(more)] = True
    parents, originals = table["parents"].tolist(), table["duplicate_of"].tolist()
    for row in range(record.rows - 1, -1, -1):  # ancestors come before
        if wanted[row]:
            for earlier in (*parents[row], originals[row]):
                if 0 <= earlier < row:
                    wanted[earlier] = True
    return np.flatnonzero(wanted)


def texts(record: Record, rows: NDArray[np.int64]) -> dict[str, dict[int, Any]]:
    """Return by kind and number what was written for candidates ``rows``, and their losses.

    What is empty is left out.
    """
    table, known = record.candidates, rows.tolist()
    kinds: dict[str, dict[int, Any]] = {
        name: {row: str(table[name][row]) for row in known if table[name][row]}
        for name in ("source", "completion", "architecture")
    }
    for name in ("repairs", "train_curve", "earlier"):
        column = table.get(name, ())
        kinds[name] = {row: json.loads(column[row]) for row in known if len(column) and column[row]}
    return kinds


def packed(data: Mapping[str, Any], written: Mapping[str, Mapping[int, Any]]) -> str:
    """Return ``data`` with the texts ``written`` as gzipped JSON in base64.

    Base64 has none of the characters that mean something in HTML. Where all texts are too much for
    a page, the longest are cut: ``longest_text`` says after how many characters.
    """
    longest = LONGEST
    while True:
        short = {kind: {r: _cut(one, longest) for r, one in rows.items()}
                 for kind, rows in written.items()}  # fmt: skip
        body = json.dumps(
            {**data, "texts": short, "longest_text": longest},
            allow_nan=False, separators=(",", ":"),
        )  # fmt: skip
        pack = gzip.compress(body.encode(), compresslevel=6, mtime=0)
        if len(pack) <= MOST_BYTES or longest < SHORTEST:
            return base64.b64encode(pack).decode("ascii")
        longest //= 2


def _cut(value: Any, longest: int) -> Any:
    """Return what was written with no text longer than that, nor a list than its share."""
    if isinstance(value, str):
        return value[:longest]
    if isinstance(value, list):
        return [_cut(one, longest) for one in value[: longest // CHARACTERS]]
    if isinstance(value, dict):
        return {key: _cut(one, longest) for key, one in value.items()}
    return value
