"""Wanted niches: how often requests that named one were answered with it, by prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from ..config import from_tables
from ..search.targets import Aim
from ..store import Record, fold
from ..types import NO_PROMPT


def targets(record: Record) -> dict[str, Any]:
    """Count targets and hits over all candidates that were told, trained or not, and by prompt.

    ``hits`` of the ``fit`` answers lie in the cell that was wanted; ``chance`` of them would by
    chance. ``miss`` and ``start`` are the mean distances of answers and of their parents from the
    middle of that cell, in sides of a cell. ``state``: ``none``, ``on`` or ``off``, which is for
    good. Nothing of it needs a training.
    """
    config = from_tables(record.config, "run.h5")
    search = fold.resume(record, config)
    aims, prompts = search.aiming.done, record.candidates["prompt"]
    texts = {**dict(enumerate(record.prompts)), NO_PROMPT: "(crossover)"}
    own = {prompt: [a for a in aims if prompts[a.candidate] == prompt] for prompt in texts}
    on = "on" if search.aiming.is_on else "off"
    return {
        "state": on if config.search.targets else "none",
        "generator": record.environment.get("generator", ""),
        **_counts(aims),
        "by_prompt": [{"prompt": texts[p], **_counts(found)} for p, found in own.items() if found],
    }


def _counts(aims: Sequence[Aim]) -> dict[str, Any]:
    fit = [aim for aim in aims if aim.fits]
    count = len(fit)
    return {
        "targets": len(aims),
        "fit": count,
        "hits": sum(aim.hit for aim in fit),
        "chance": math.fsum(aim.chance for aim in fit),
        "miss": math.fsum(aim.miss for aim in fit) / count if fit else None,
        "start": math.fsum(aim.start for aim in fit) / count if fit else None,
    }


def render(values: dict[str, Any]) -> Table:
    """Lay out what :func:`targets` returned for a terminal."""
    said = {
        "none": "no targets (search.targets)",
        "on": "targets are named",
        "off": "targets switched themselves off: answers hit no more than by chance",
    }[values["state"]]
    table = Table(box=None, pad_edge=False, header_style="bold", title=said, title_justify="left")
    for name in ("targets", "fit", "hits", "by chance", "miss", "parent's"):
        table.add_column(name, justify="right", no_wrap=True, min_width=max(5, len(name)))
    table.add_column("prompt", no_wrap=True, overflow="ellipsis")
    for one in [{"prompt": f"(all, {values['generator']})", **values}, *values["by_prompt"]]:
        numbers = ("unknown" if one[k] is None else f"{one[k]:.2f}" for k in ("miss", "start"))
        counts = (f"{one[name]:,}" for name in ("targets", "fit", "hits"))
        table.add_row(*counts, f"{one['chance']:.1f}", *numbers, one["prompt"])
    return table
