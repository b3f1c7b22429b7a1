"""Rates of completions that parsed, were built and fit, by prompt and by temperature."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..store import Record
from ..types import NO_PROMPT

STEP = 0.1
"""Width of the classes of temperature."""

_STAGES = ("parsed", "built", "fits")
_COUNTS = ("completions", *_STAGES, "repaired", "trainable", "distinct")


def rates(record: Record) -> dict[str, Any]:
    """Count completions over all candidates, by prompt and by temperature.

    ``parsed``, ``built`` and ``fits`` are about the text as it was written (``built``: it could
    be constructed; ``fits``: it maps images to classes), ``repaired`` counts those that rules
    made fit, ``trainable`` what has a score, be it a copy's, and ``distinct`` these without the
    copies. ``tokens`` were written in ``seconds`` of sampling.
    """
    table = record.candidates
    prompts = {int(p) for p in np.unique(table["prompt"])}
    steps = _steps(record)
    everything = np.ones(record.rows, dtype=bool)
    return {
        **_counts(record, everything),
        "by_prompt": [
            {"prompt": _prompt(record, p), **_counts(record, table["prompt"] == p)}
            for p in sorted(prompts - {NO_PROMPT}) + sorted(prompts & {NO_PROMPT})
        ],
        "by_temperature": [
            {"temperature": round(step * STEP, 6), **_counts(record, steps == step)}
            for step in np.unique(steps).tolist()
            if step >= 0
        ],
    }


def line(values: dict[str, Any]) -> str:
    """Describe all completions in a line."""
    total = values["completions"]

    def share(name: str) -> str:
        return f"{values[name] / total:.0%}"

    speed = ""
    if values["seconds"]:
        speed = f"; {values['tokens'] / values['seconds']:.0f} tokens a second"
    return (
        f"{total}: {share('parsed')} parsed, {share('built')} built, {share('fits')} fit, "
        f"{share('repaired')} repaired; {share('trainable')} trainable, "
        f"{share('distinct')} distinct; {values['tokens']:,} tokens{speed}"
    )


def render(values: dict[str, Any]) -> RenderableType:
    """Lay out tables by prompt and by temperature for a terminal."""
    return Group(
        *(
            _table(values[f"by_{name}"], name)
            for name in ("prompt", "temperature")
            if values[f"by_{name}"]
        )
    )


def _table(groups: list[dict[str, Any]], name: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("all", *_COUNTS[1:]):
        table.add_column(column, justify="right", no_wrap=True, min_width=max(5, len(column)))
    table.add_column(name, no_wrap=True, overflow="ellipsis")
    for group in groups:
        numbers = [f"{group[column]:,}" for column in _COUNTS]
        table.add_row(*numbers, Text(str(group[name])))
    return table


def _counts(record: Record, rows: NDArray[np.bool_]) -> dict[str, Any]:
    table = record.candidates
    written, status = table["written"][rows], table["status"][rows]
    copied = (status == b"duplicate") & (table["failure"][rows] == "")
    reached = {s: int(np.isin(written, [w.encode() for w in _STAGES[i:]]).sum())
               for i, s in enumerate(_STAGES)}  # fmt: skip
    seconds = float(np.nansum(table["generate_seconds"][rows]))
    return {
        "completions": int(rows.sum()),
        **reached,
        "repaired": int((table["repairs"][rows] != "").sum()),
        "trainable": int(((status == b"scored") | copied).sum()),
        "distinct": int((status == b"scored").sum()),
        "tokens": int(table["tokens"][rows].sum()),
        "seconds": seconds if math.isfinite(seconds) else 0.0,
    }


def _prompt(record: Record, prompt: int) -> str:
    return "(crossover or random)" if prompt == NO_PROMPT else record.prompts[prompt]


def _steps(record: Record) -> NDArray[np.int64]:
    """Return the class of temperature of every candidate; -1: it has none."""
    temperature = record.candidates["temperature"]
    known = np.isfinite(temperature)
    steps = np.full(len(temperature), -1, dtype=np.int64)
    steps[known] = np.rint(temperature[known] / STEP)
    return steps
