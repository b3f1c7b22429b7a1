"""A network's source with where it comes from."""

from __future__ import annotations

import math

from ..store import Record, repeats
from ..types import NO_PROMPT, Interface
from .recipe import trained_by


def writer_of(record: Record, candidate: int) -> str:
    """Return in words who wrote a candidate: of several writers its name, too."""
    name = record.candidates["writer"][candidate].decode()
    if not name:
        return str(record.environment.get("generator"))
    facts = record.environment.get("writers", {}).get(name, {})
    return f"{name} ({facts.get('generator', 'unknown')})"


def exported_source(
    record: Record, candidate: int, source: str = "", interface: Interface | str | None = None
) -> str:
    """Return a candidate's source below a comment that says what is known of it.

    ``source``: the module, where it is more than the record's; ``interface``: what it is given and
    gives back, or why that is not known.
    """
    table = record.candidates
    source = source or str(table["source"][candidate])

    def text(name: str) -> str:
        return str(table[name][candidate].decode())

    def number(name: str) -> str:
        value = float(table[name][candidate])
        return f"{value:g}" if math.isfinite(value) else "unknown"

    parents = [str(p) for p in table["parents"][candidate].tolist() if p >= 0]
    prompt = int(table["prompt"][candidate])
    cell = table["architecture"][candidate]
    trained = "by the benchmark" if cell else f"with seed {int(table['seed'][candidate])}"
    if settings := trained_by(record, candidate):
        trained += f": {settings.recipe()}"
    known = repeats.scored(record)
    several = f"mean fitness of {known.number[candidate]} trainings: {known.mean[candidate]:g}"
    lines = [
        f"candidate {candidate} of run {record.run_id}",
        f"status: {text('status')}; fitness {number('fitness')}, validation accuracy "
        f"{number('valid_accuracy')}, test accuracy {number('test_accuracy')}",
        *([several] if known.number[candidate] > 1 else []),
        *([f"cell: {cell}; rank {int(table['rank'][candidate])}"] if cell else []),
        f"size: {number('params')} parameters, {number('flops')} FLOPs (multiply-adds), width "
        f"{number('width')}, depth {number('depth')}",
        f"made by: {text('operator')} in generation {int(table['generation'][candidate])} from "
        + (f"candidate {' and '.join(parents)}" if parents else "the initial network"),
        *([f"prompt {prompt}: {record.prompts[prompt]}"] if prompt != NO_PROMPT else []),
        f"written by: {writer_of(record, candidate)}, temperature "
        f"{number('temperature')}, seed {int(table['sampling_seed'][candidate])}",
        f"trained for {int(table['epochs'][candidate])} epochs {trained}; llmatic-hpc "
        f"{record.environment.get('llmatic_hpc')}",
        f"sha256 of the source on the record: {text('source_sha256')}",
        *described(interface),
    ]
    # Text of a prompt or an error may have lines of its own.
    comment = "".join(f"# {' '.join(line.split())}\n" for line in lines)
    return f"{comment}\n{source}"


def described(interface: Interface | str | None) -> list[str]:
    """Say in lines what a network is given and gives back; a text says why that is not known."""
    if interface is None:
        return []
    if isinstance(interface, str):
        return [f"input and classes: not known here: {interface}"]
    shape = ", ".join(map(str, interface.input_shape))
    names = f": {', '.join(interface.names)}" if interface.names else ""
    return [
        f"input: (N, {shape}) float32{interface.values and f', {interface.values}'}",
        f"output: (N, {interface.classes}), a score for each class{names}",
    ]
