"""Journal of submissions, each written down before it is made.

``submissions.jsonl`` has one event a line, each durable before the act that it announces, so
that a coordinator that comes back knows every task that can exist. A torn last line, which a
kill may leave, is an act that has not begun. A candidate that is out when its generation ends
keeps the journal, and so its attempts, for the next one.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..rundir.files import append_line
from ..types import Attempt, Result

Item = tuple[int, int]
"""(candidate, number of the attempt)."""

HANDED_BACK = "handed back"
"""Ending of a task that was asked to stop, and saved its training."""
LEFT = "no result was needed any more"
UNKNOWN = "ended without a result"


@dataclass
class Entry:
    """Task according to the journal."""

    items: list[Item]
    token: str
    time: float
    """Time just before its submission, in seconds since 1970."""
    job: str = ""


@dataclass
class State:
    """State of a generation's tasks according to the journal."""

    tasks: dict[str, Entry] = field(default_factory=dict)
    """Every task that was started, or was about to be, by its folder's name."""
    submissions: int = 0
    attempts: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Highest attempt of each candidate."""
    ended: set[str] = field(default_factory=set)
    """Tasks that ended without all of their results, which are due again."""
    failed: set[Item] = field(default_factory=set)
    """Attempts that the machine spoiled."""
    blamed: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Node that spoiled a task, and the time in seconds since 1970: one charge a task."""
    suspected: dict[int, set[tuple[str, int]]] = field(default_factory=lambda: defaultdict(set))
    """Candidates that may themselves have used up memory or time: (cause, attempt)."""
    endings: dict[str, tuple[str, str, float, float]] = field(default_factory=dict)
    """Endings of tasks without all their results: cause, node, time of finding out, seconds."""
    lost: dict[str, dict[str, float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )
    """Seconds that tasks ran in vain: by generation's name, by kind."""

    def failures(self, candidate: int) -> int:
        """Count the attempts at a candidate that the machine spoiled."""
        return sum(1 for item in self.failed if item[0] == candidate)

    def tokens_of(self, candidates: Collection[int]) -> set[str]:
        """Return the submissions with an attempt at one of these candidates."""
        return {
            entry.token
            for entry in self.tasks.values()
            if any(candidate in candidates for candidate, _ in entry.items)
        }

    def is_latest(self, item: Item) -> bool:
        """Return whether no later attempt at the candidate was started."""
        return self.attempts[item[0]] == item[1]

    def tries(
        self, candidate: int, rung: int, results: Callable[[Item], Result | None]
    ) -> tuple[Attempt, ...]:
        """Return all attempts at a candidate, in order; ``results`` finds what each has told."""
        found = []
        for name, entry in self.tasks.items():
            for item in entry.items:
                if item[0] == candidate:
                    found.append(self._try(name, entry, item, rung, results(item)))
        return tuple(sorted(found, key=lambda one: one.attempt))

    def _try(
        self, name: str, entry: Entry, item: Item, rung: int, result: Result | None
    ) -> Attempt:
        cause, node, end, seconds = self.endings.get(name, (LEFT, "", math.nan, math.nan))
        start = end - seconds
        if result is not None:
            start, end, node = result.started, result.finished, result.node
            cause = "result" if result.outcome.status != "infrastructure" else "infrastructure"
        job = result.slurm_job if result is not None and result.slurm_job else entry.job
        return Attempt(*item, rung, entry.time, start, end, job, node, cause)

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in an event of the journal."""
        match event:
            # Tasks, by their folders' names, are about to be submitted in this order.
            case {"event": "submitting", "token": token, "tasks": tasks, "time": when}:
                self.submissions += 1
                for name, pairs in tasks.items():
                    self.tasks[name] = Entry([(c, a) for c, a in pairs], token, when)
                    for candidate, attempt in pairs:
                        self.attempts[candidate] = max(self.attempts[candidate], attempt)
            # They were, with the ids that the scheduler gave.
            case {"event": "submitted", "jobs": jobs}:
                for name, job in jobs.items():
                    self.tasks[name].job = job
            # They were refused: nothing of that submission exists.
            case {"event": "refused", "token": token}:
                for name in [n for n, e in self.tasks.items() if e.token == token]:
                    for candidate, attempt in self.tasks.pop(name).items:
                        self.attempts[candidate] = attempt - 1
            # The machine spoiled an attempt; with a node, if one is to blame.
            case {"event": "failed", "item": item, "task": task, "node": node, "time": when}:
                self.failed.add(tuple(item))
                if node:
                    self.blamed[task] = (node, when)
            # A task is settled: its candidates without a result are due again.
            case {"event": "ended", "task": task, "time": when}:
                self.ended.add(task)
                self.endings.setdefault(task, (HANDED_BACK, "", when, math.nan))
            # A task ended without all its results; ``by`` names the generation that pays.
            case {"event": "lost", "by": by, "kind": kind, "seconds": seconds, "task": task,
                  "cause": cause, "node": node, "time": when}:  # fmt: skip
                self.lost[by][kind] += seconds
                self.endings[task] = (cause or UNKNOWN, node, when, seconds or math.nan)
            # An attempt ended by a limit that the candidate may itself have met.
            case {"event": "suspected", "item": [candidate, attempt], "cause": cause}:
                self.suspected[candidate].add((cause, attempt))


def read_state(path: Path) -> State:
    """Read a journal without the right to write it; an empty state where it cannot be read."""
    try:
        return _replayed(path.read_text(encoding="utf-8"))
    except OSError:
        return State()


def _replayed(text: str) -> State:
    state = State()
    for line in text.splitlines():
        with contextlib.suppress(ValueError):  # a torn line
            state.apply(json.loads(line))
    return state


class Journal:
    """Append-only file of events, with one writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.state = _replayed(path.read_text(encoding="utf-8") if path.exists() else "")

    def write(self, event: str, **facts: Any) -> None:
        """Make an event durable and take it in; :meth:`State.apply` says which there are."""
        line = json.dumps({"event": event, **facts, "time": time.time()})
        append_line(self._path, line)
        self.state.apply(json.loads(line))
