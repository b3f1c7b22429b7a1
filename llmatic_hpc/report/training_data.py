"""Training data for a language model from the record of a run, as TRL reads them.

Supervised pairs: what a writer was asked, and what it wrote, of every network that is better than
all of its parents; the initial network has no score, so of its offspring those that entered the
map. A text that had to be repaired is replaced by the repaired source. Preference pairs: two
answers to the very same request, one that entered the map, and one that did not or that could not
be trained.

Test rows share no lineage with the others: candidates that are joined by parents, or are the same
network, are in one part. The control's texts are left out, for it reads no request.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..config import Config
from ..generation import prompts
from ..store import Record, requests, tries
from ..types import Problem, Request

Row = dict[str, Any]

UNTOLD = ("infrastructure", "passed_over", "pending")
"""Statuses that say nothing of a text."""


class Group(NamedTuple):
    """Candidates that answer one request, in one part."""

    is_test: bool
    request: Hashable


@dataclass
class TrainingData:
    """Rows of both kinds, those to train on and those held out."""

    pairs: list[Row] = field(default_factory=list)
    """``prompt`` and ``completion``."""
    pairs_test: list[Row] = field(default_factory=list)
    preferences: list[Row] = field(default_factory=list)
    """``prompt``, ``chosen`` and ``rejected``."""
    preferences_test: list[Row] = field(default_factory=list)
    lineages: int = 0

    def files(self) -> dict[str, list[Row]]:
        """Return the rows by what is added to a file's name before its suffix."""
        return {
            "": self.pairs,
            ".test": self.pairs_test,
            ".dpo": self.preferences,
            ".dpo.test": self.preferences_test,
        }


def training_data(
    record: Record, config: Config, problem: Problem, *, test_share: float = 0.1
) -> TrainingData:
    """Collect the training data of a run; ``test_share``: the most that is held out."""
    asked = {request.candidate: request for request in requests.asked(record, config, problem)}
    rows = [row for row in asked if _is_of_model(record, config, row)]
    lineage = lineages(record)
    held_out = _held_out(record.run_id, lineage, rows, test_share)
    found = TrainingData(lineages=len({lineage[row] for row in rows}))
    for row in rows:
        if not _is_better(record, row):
            continue
        prompt, answer = _prompt(record, asked[row], problem, row), _answer(record, row)
        if answer:
            facts = _facts(record, row, lineage[row])
            pair = {"prompt": prompt, "completion": _as_said(record, row, answer), **facts}
            (found.pairs_test if lineage[row] in held_out else found.pairs).append(pair)
    for is_test, chosen, rejected, text in _preferences(record, asked, rows, lineage, held_out):
        prompt, answer = _prompt(record, asked[chosen], problem, chosen), _answer(record, chosen)
        if not answer or answer == text:
            continue
        pair = {
            "prompt": prompt,
            "chosen": _as_said(record, chosen, answer),
            "rejected": _as_said(record, chosen, text),
            **_facts(record, chosen, lineage[chosen]),
            "rejected_candidate": rejected,
        }
        (found.preferences_test if is_test else found.preferences).append(pair)
    return found


def lineages(record: Record) -> list[int]:
    """Return of each candidate the first of those that it is joined to.

    Joined are parents and offspring, duplicates, and networks of one canonical form or one cell.
    """
    first = list(range(record.rows))

    def root(row: int) -> int:
        while first[row] != row:
            first[row] = first[first[row]]
            row = first[row]
        return row

    table = record.candidates
    known: dict[Hashable, int] = {}
    for row in range(record.rows):
        joined = [parent for parent in table["parents"][row].tolist() if parent >= 0]
        for key in (table["canonical_sha256"][row], table["architecture"][row], _raw(record, row)):
            if key:
                joined.append(known.setdefault(key, row))
        for other in joined:
            low, high = sorted((root(row), root(other)))
            first[high] = low
    return [root(row) for row in range(record.rows)]


def _held_out(run_id: str, lineage: list[int], rows: Sequence[int], share: float) -> set[int]:
    """Draw lineages to hold out, by the run's name: never the largest, at most ``share`` of all."""
    sizes: dict[int, int] = defaultdict(int)
    for row in rows:
        sizes[lineage[row]] += 1
    largest = max(sizes, key=lambda one: (sizes[one], -one), default=-1)
    drawn = sorted(sizes, key=lambda one: hashlib.sha256(f"{run_id} {one}".encode()).digest())
    found: set[int] = set()
    left = share * len(rows)
    for one in drawn:
        if one != largest and sizes[one] <= left:
            found.add(one)
            left -= sizes[one]
    return found


def _preferences(
    record: Record,
    asked: Mapping[int, Request],
    rows: Iterable[int],
    lineage: list[int],
    held_out: set[int],
) -> Iterable[tuple[bool, int, int, str]]:
    """Yield pairs of the same request in the same part: chosen, rejected, and the rejected text.

    A text that was sampled for a candidate and not kept is one of its own request. Each chosen one
    is paired with one rejected one, in turn.
    """
    table = record.candidates
    chosen: dict[Group, list[int]] = defaultdict(list)
    rejected: dict[Group, list[tuple[int, str]]] = defaultdict(list)
    for row in rows:
        key = Group(lineage[row] in held_out, _key(record, asked[row], row))
        if table["network_added"][row] > 0:
            chosen[key].append(row)
        elif record.status(row) not in UNTOLD:
            rejected[key].append((row, _raw(record, row)))
        for number, one in enumerate(before := tries.earlier(record, row)):
            earlier = before[number - 1] if number and before[number - 1]["kind"] == "retry" else {}
            said = earlier.get("completion", ""), earlier.get("failure", "")
            if said == (asked[row].answered, asked[row].error):
                rejected[key].append((row, one["completion"]))
    for key, winners in chosen.items():
        for number, row in enumerate(winners):
            if losers := rejected[key]:
                loser, text = losers[number % len(losers)]
                yield key.is_test, row, loser, text


def _key(record: Record, request: Request, row: int) -> Hashable:
    form = bytes(record.candidates["form"][row])
    words = request.instruction, request.text, request.answered, request.error
    return (form, request.operator, request.parents, *words)


def _is_of_model(record: Record, config: Config, row: int) -> bool:
    """Return whether a candidate's text was written by something that reads requests."""
    table, facts = record.candidates, record.environment
    if name := table["writer"][row].decode():
        facts = facts.get("writers", {}).get(name, {})
    kind = facts.get("generator_kind") or config.generator.kind
    is_text = table["form"][row] in (b"chat", b"completion")
    return bool(is_text and kind != "procedural" and table["operator"][row] != b"seed")


def _is_better(record: Record, row: int) -> bool:
    table = record.candidates
    if record.status(row) != "scored":
        return False
    parents = [parent for parent in table["parents"][row].tolist() if parent >= 0]
    if not parents:
        return bool(table["network_added"][row] > 0)
    before = [float(table["fitness"][parent]) for parent in parents]
    return all(math.isfinite(one) and table["fitness"][row] > one for one in before)


def _prompt(record: Record, request: Request, problem: Problem, row: int) -> Any:
    """Return what the writer was asked: messages, or the text that it continued."""
    if record.candidates["form"][row] == b"chat":
        return prompts.chat_messages(request, problem)
    return prompts.completion_prompt(request)


def _raw(record: Record, row: int) -> str:
    table = record.candidates
    return str(table["completion"][row] or table["source"][row])


def _answer(record: Record, row: int) -> str:
    """Return what is to be learnt: the text as written, or in its form the repaired source.

    Empty where a repaired source does not continue what the writer was to continue.
    """
    if not record.candidates["repairs"][row]:
        return _raw(record, row)
    source = str(record.candidates["source"][row])
    if record.candidates["form"][row] == b"chat":
        return f"```python\n{source.strip()}\n```"
    before, prefix, after = source.rpartition(prompts.PREFIX)
    return after if prefix and "class " not in before and "def " not in before else ""


def _as_said(record: Record, row: int, text: str) -> Any:
    is_chat = record.candidates["form"][row] == b"chat"
    return [{"role": "assistant", "content": text}] if is_chat else text


def _facts(record: Record, row: int, lineage: int) -> Row:
    table = record.candidates
    return {
        "run_id": record.run_id,
        "candidate": row,
        "lineage": lineage,
        "parents": [parent for parent in table["parents"][row].tolist() if parent >= 0],
        "fitness": float(table["fitness"][row]),
    }
