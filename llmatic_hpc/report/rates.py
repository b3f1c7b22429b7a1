"""Rates of completions that parsed, were built and fit, by writer, prompt and temperature."""

from __future__ import annotations

import json
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
_COUNTS = ("completions", *_STAGES, "repaired", "trainable", "distinct", "added")


def rates(record: Record) -> dict[str, Any]:
    """Count completions over all candidates, by writer (where there are several), by prompt and by
    temperature.

    ``parsed``, ``built`` and ``fits`` are about the text as it was written (``built``: it could
    be constructed; ``fits``: it maps images to classes), ``repaired`` counts those that rules
    made fit, ``trainable`` what has a score, at a rung or a copy's, ``distinct`` these without the
    copies, and ``added`` what entered the map; ``passed_over`` were those that
    ``search.oversample`` samples beyond what it trains.
    ``resampled`` and ``retries`` were sampled again before any training, since they repeated a
    known network or did not fit. ``tokens`` were written in ``seconds`` of sampling, theirs
    included.
    """
    prompts, temperature = record.candidates["prompt"], record.candidates["temperature"]
    texts = {**dict(enumerate(record.prompts)), NO_PROMPT: "(crossover or random)"}
    own = ~record.are_repeats
    steps = np.rint(temperature / STEP)  # NaN, for what was not sampled, equals no class
    writers = record.candidates["writer"]
    return {
        **_counts(record, own),  # of a repeat nothing is written
        "by_writer": [
            {
                "writer": name,
                "generator": facts["generator"],
                **_counts(record, own & (writers == name.encode())),
            }
            for name, facts in record.environment.get("writers", {}).items()
        ],
        "by_prompt": [
            {"prompt": text, **_counts(record, own & (prompts == prompt))}
            for prompt, text in texts.items()
            if (own & (prompts == prompt)).any()
        ],
        "by_temperature": [
            {"temperature": round(step * STEP, 6), **_counts(record, steps == step)}
            for step in np.unique(steps[np.isfinite(steps)]).tolist()
        ],
    }


def line(values: dict[str, Any]) -> str:
    """Describe all completions in a line."""
    total = values["completions"]

    def share(name: str) -> str:
        return f"{values[name] / total:.0%}"

    seconds = values["seconds"]
    speed = f"; {values['tokens'] / seconds:.0f} tokens a second" if seconds else ""
    passed = f"{share('passed_over')} passed over, " if values["passed_over"] else ""
    again = [f"{values[name]} {name}" for name in ("resampled", "retries") if values[name]]
    passed = f"{', '.join(again)}, {passed}" if again else passed
    return (
        f"{total}: {share('parsed')} parsed, {share('built')} built, {share('fits')} fit, "
        f"{share('repaired')} repaired; {passed}{share('trainable')} trainable, "
        f"{share('distinct')} distinct; {values['tokens']:,} tokens{speed}"
    )


def shares(values: dict[str, Any]) -> str:
    """Describe the part of one writer: what was trained, what entered the map, what it wrote."""
    return (
        f"{values['completions']} completions, {values['distinct']} distinct, {values['added']} "
        f"entered the map; {values['tokens']:,} tokens"
    )


def render(values: dict[str, Any]) -> RenderableType:
    """Lay out tables by writer, by prompt and by temperature for a terminal."""
    tables = {name: values[f"by_{name}"] for name in ("writer", "prompt", "temperature")}
    return Group(*(_table(groups, name) for name, groups in tables.items() if groups))


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
    own = np.isin(status, (b"scored", b"stopped"))
    of_these = np.isin(table["status"][table["duplicate_of"][rows]], (b"scored", b"stopped"))
    copied = (status == b"duplicate") & of_these
    stages = np.array(_STAGES, dtype="S")
    seconds = float(np.nansum(table["generate_seconds"][rows]))
    texts = table["earlier"][rows]
    before = [one for text in texts if text for one in json.loads(text)]
    return {
        "completions": int(rows.sum()),
        **{s: int(np.isin(written, stages[i:]).sum()) for i, s in enumerate(_STAGES)},
        "repaired": int((table["repairs"][rows] != "").sum()),
        "trainable": int((own | copied).sum()),
        "distinct": int(own.sum()),
        "added": int((table["network_added"][rows] > 0).sum()),
        "passed_over": int((status == b"passed_over").sum()),
        "resampled": int(table["resampled"][rows].sum()),
        "retries": int(table["retries"][rows].sum()),
        "tokens": int(table["tokens"][rows].sum()) + sum(one["tokens"] for one in before),
        "seconds": seconds if math.isfinite(seconds) else 0.0,
    }
