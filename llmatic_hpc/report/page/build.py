"""Put a page together: a template of readable files, and one block of packed data."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib import resources
from typing import Any

import numpy as np

from ... import __version__
from ...store import Record, repeats
from ..methods import Run
from ..signals import signals
from . import anytime, failures, maps, overview, paid, texts, timeline
from .plain import number, numbers, plain

SCRIPTS = (
    "dom", "format", "code", "chart", "map", "network", "lineage", "sections", "timeline", "main",
)  # fmt: skip
"""Modules of the page in the order in which they are loaded."""

COLUMNS = (
    "generation", "told", "operator", "prompt", "temperature", "individual", "status",
    "duplicate_of", "fitness", "valid_accuracy", "test_accuracy", "rank", "train_loss", "epochs",
    "flops", "params", "width", "depth", "ratio", "activation_bytes", "milliseconds",
    "network_cell", "network_added", "network_clipped", "prompt_cell", "prompt_added", "tokens",
    "form", "written", "train_seconds", "attempts", "device",
)  # fmt: skip
"""Columns of every candidate that the page has; of what no click reaches it has no more."""


def page(runs: Sequence[Run]) -> str:
    """Return the page of the first of ``runs``, with the others beside it in its curves."""
    first = runs[0]
    record = first.record
    failed = failures.failures(record)
    about = overview.overview(record)
    best = about["best"]
    examples = [one["candidate"] for group in failed for one in group["examples"]]
    rows = texts.reached(record, [*examples, *([best] if best is not None else [])])
    data: dict[str, Any] = {
        "name": first.path.name,
        "path": str(first.path),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": __version__,
        "verdict": overview.verdict(record),
        "overview": about,
        "planned": overview.planned(record, first.path),
        "prompts": list(record.prompts),
        "initial": str(record.environment.get("initial_network", "")),
        "candidates": _candidates(record),
        "maps": maps.maps(record),
        "paid": paid.paid(record),
        "anytime": anytime.anytime(runs),
        "failures": failed,
        "rungs": overview.rungs(record),
        "signals": [
            dict(zip(one, map(plain, one.values()), strict=True)) for one in signals(record)
        ],
        "timeline": timeline.timeline(record),
        "reached": len(rows),
        "trainings": _trainings(record),
    }
    return _html(first.path.name, texts.packed(data, texts.texts(record, rows)))


def _candidates(record: Record) -> dict[str, Any]:
    """Return the numbers of all candidates by column."""
    table = record.candidates
    named = {name: numbers(table[name]) for name in COLUMNS if name in table}
    named["seed"] = [str(seed) for seed in table["seed"].tolist()]  # too long for JavaScript
    return {
        **named,
        "parents": [[p for p in row if p >= 0] for row in table["parents"].tolist()],
        "descriptors": [list(map(number, row)) for row in table["descriptors"].tolist()],
        "failure": [str(text)[:300] for text in table["failure"].tolist()],
    }


def _trainings(record: Record) -> dict[int, list[Any]]:
    """Return number, mean fitness and its deviation of the networks that were trained again."""
    found = repeats.scored(record)
    return {
        row: [int(found.number[row]), number(found.mean[row]), number(found.deviation[row])]
        for row in np.flatnonzero(found.number > 1).tolist()
    }


def _html(name: str, block: str) -> str:
    """Fill the template. Only this style and this script may run, and nothing may be fetched."""
    style = _asset("style.css")
    script = '"use strict";\n' + "\n".join(_asset(f"{module}.js") for module in SCRIPTS)
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "POLICY": policy, "TITLE": escape(name), "STYLE": style, "SCRIPT": script, "DATA": block,
    }  # fmt: skip
    pieces = _asset("page.html").split("@@")
    return "".join(parts[piece] if at % 2 else piece for at, piece in enumerate(pieces))


def _digest(text: str) -> str:
    """Return a source for a content security policy: the digest of an inline block."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")
