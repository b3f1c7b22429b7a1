"""Repair almost-right networks: by named rules, minimally, and on the record.

:mod:`.static` finds what the text alone shows to be wrong, :mod:`.dynamic` what running it in a
contained child shows; :mod:`.rules` makes the changes, in the judge, on the judge's own copy
of the text. A child answers with findings and never with text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from ...types import Repair
from . import static
from .rules import Finding, apply, first_change

MOST_FINDINGS = 32
"""Most changes to one source, by the text alone and again by running it."""
REPLY_BYTES = 16_384
"""Length of a child's findings, padded."""

__all__ = ["Finding", "Repair", "by_findings", "by_names", "decode", "encode"]


def by_names(source: str, *, channels: int, classes: int) -> tuple[str, list[Repair]]:
    """Repair what the text alone shows to be wrong; return the text and the changes."""
    repairs: list[Repair] = []
    seen = {source}
    for _ in range(MOST_FINDINGS):
        findings = static.find(source, channels=channels, classes=classes)
        if (change := first_change(source, findings, seen)) is None:
            break
        _, source, repair = change
        seen.add(source)
        repairs.append(repair)
    return source, repairs


def by_findings(source: str, findings: Iterable[Finding]) -> tuple[str, list[Repair]]:
    """Repair every finding in turn; return the text and the changes.

    Raises :class:`.spans.NotApplicableError` where one does not fit.
    """
    repairs = []
    for finding in findings:
        source, repair = apply(source, finding)
        repairs.append(repair)
    return source, repairs


def encode(findings: Sequence[Finding]) -> bytes:
    """Write findings as a child's reply, padded with spaces; too many of them are none."""
    data = json.dumps([[f.rule, f.at, f.name, f.numbers] for f in findings]).encode()
    return (data if len(data) <= REPLY_BYTES else b"[]").ljust(REPLY_BYTES)


def decode(payload: bytes) -> list[Finding]:
    """Read the findings in a reply. Raises ``ValueError`` for what ``encode`` never writes."""
    entries = json.loads(payload)
    if not isinstance(entries, list) or len(entries) > MOST_FINDINGS:
        raise ValueError("not a short list")
    return [_finding(entry) for entry in entries]


def _finding(entry: object) -> Finding:
    match entry:
        case [str(rule), [int(a), int(b), int(c), int(d)] as at, str(name), list(numbers)]:
            if len(numbers) <= MOST_FINDINGS and all(type(n) is int for n in [*at, *numbers]):
                return Finding(rule, (a, b, c, d), name, tuple(numbers))
    raise ValueError("not a finding")
