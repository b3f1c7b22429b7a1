"""Journal of submissions, each written down before it is made.

``submissions.jsonl`` has one event a line, each durable before the act that it announces, so
that a coordinator that comes back knows every task that can exist. A torn last line, which a
kill may leave, is an act that has not begun. A candidate that is out when its generation ends
keeps the journal, and so its attempts, for the next one.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..rundir.files import append_line
from .backend import OUT_OF_MEMORY, PREEMPTED, TIME_OUT, Ending

Item = tuple[int, int]
"""(candidate, number of the attempt)."""


@dataclass
class Entry:
    """Task according to the journal."""

    items: list[Item]
    token: str
    position: int
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

    def apply(self, event: dict[str, Any]) -> None:
        """Take in an event of the journal."""
        kind = event["event"]
        if kind == "submitting":
            self.submissions += 1
            for position, (name, pairs) in enumerate(event["tasks"].items()):
                items = [(int(candidate), int(attempt)) for candidate, attempt in pairs]
                self.tasks[name] = Entry(items, event["token"], position, event["time"])
                for candidate, attempt in items:
                    self.attempts[candidate] = max(self.attempts[candidate], attempt)
        elif kind == "submitted":
            for name, job in event["jobs"].items():
                self.tasks[name].job = job
        elif kind == "refused":
            refused = {n: e for n, e in self.tasks.items() if e.token == event["token"]}
            for name, entry in refused.items():
                del self.tasks[name]
                for candidate, attempt in entry.items:
                    self.attempts[candidate] = attempt - 1
        elif kind == "failed":
            candidate, attempt = event["item"]
            self.failed.add((int(candidate), int(attempt)))
            if event["node"]:
                self.blamed[event["task"]] = (event["node"], float(event["time"]))
        elif kind == "ended":
            self.ended.add(event["task"])
        elif kind == "lost":
            self.lost[event["by"]][event["kind"]] += float(event["seconds"])
        elif kind == "suspected":
            candidate, attempt = event["item"]
            self.suspected[int(candidate)].add((event["cause"], int(attempt)))


def kind_of_loss(cause: str) -> str:
    """Return the kind of a loss: ``preempted``, ``limit`` (memory or time) or ``machine``."""
    if cause in (OUT_OF_MEMORY, TIME_OUT):
        return "limit"
    return PREEMPTED if cause == PREEMPTED else "machine"


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
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self.state = _replayed(text)
        if text and not text.endswith("\n"):
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def submitting(self, token: str, tasks: Mapping[str, Sequence[Item]]) -> None:
        """Note that tasks, by their folders' names, are about to be submitted in this order."""
        event = {"event": "submitting", "token": token, "tasks": tasks, "time": time.time()}
        self._write(event)

    def submitted(self, jobs: Mapping[str, str]) -> None:
        """Note that they were submitted, with the ids that the scheduler gave."""
        self._write({"event": "submitted", "jobs": jobs})

    def refused(self, token: str) -> None:
        """Note that they were refused: nothing of that submission exists."""
        self._write({"event": "refused", "token": token})

    def failed(self, item: Item, reason: str, *, task: str, node: str) -> None:
        """Note that the machine spoiled an attempt; ``node``: if one is to blame."""
        event = {"event": "failed", "item": item, "reason": reason, "task": task}
        self._write({**event, "node": node, "time": time.time()})

    def lost(self, task: str, ending: Ending, *, by: str) -> None:
        """Note that a task ended without all its results; ``by`` names the generation that pays."""
        self._write(
            {
                "event": "lost",
                "task": task,
                "kind": kind_of_loss(ending.cause),
                "cause": ending.cause,
                "node": ending.node,
                "seconds": ending.seconds,
                "by": by,
            }
        )

    def ended(self, task: str) -> None:
        """Note that a task is settled: its candidates without a result are due again."""
        self._write({"event": "ended", "task": task})

    def suspected(self, item: Item, cause: str) -> None:
        """Note that an attempt ended by a limit that the candidate may itself have met."""
        self._write({"event": "suspected", "item": item, "cause": cause})

    def _write(self, event: dict[str, Any]) -> None:
        line = json.dumps(event)
        append_line(self._path, line)
        self.state.apply(json.loads(line))
