"""One element of a job array as the back end follows it: where it stands and why it ended."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .backend import CANCELLED, OUT_OF_MEMORY, PREEMPTED, TIME_OUT
from .scheduler import Account, Queued

SETTLING_SECONDS = 5.0
"""A final state in accounting and absence from the queue count after so long: a result that was
written last may still be on its way through a network file system."""
FRESH_SECONDS = 10.0
"""A job may be missing from the queue for a moment after it was submitted."""

_FINAL = {"COMPLETED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "CANCELLED", "BOOT_FAIL",
          "DEADLINE", "PREEMPTED"}  # fmt: skip

_CAUSES = {
    "OUT_OF_MEMORY": OUT_OF_MEMORY,
    "TIMEOUT": TIME_OUT,
    "PREEMPTED": PREEMPTED,
    "NODE_FAIL": "node failure",
    "BOOT_FAIL": "node failure",
    "CANCELLED": CANCELLED,
}

# What the batch step says in its own output, where there is no accounting.
_LAST_WORDS = (
    (r"DUE TO TIME LIMIT", TIME_OUT),
    (r"DUE TO PREEMPTION", PREEMPTED),
    (r"oom.kill|out of memory handler|exceeded memory limit", OUT_OF_MEMORY),
    (r"DUE TO NODE FAILURE", "node failure"),
)


@dataclass
class Element:
    """Task and what is known of its job."""

    job: str
    token: str
    submitted: float
    state: str = ""
    node: str = ""
    missing_since: float | None = None
    """Time since which it is not in the queue, or has been leaving it."""
    leaving: bool = False
    """True where it is in the queue all the same: Slurm may be about to start it again."""
    left: float | None = None
    """Time at which the file was first seen that says it has left."""
    cause: str = ""
    account: Account | None = field(default=None, repr=False)

    def line_in(self, queue: Mapping[str, Queued]) -> Queued | None:
        """Return its line in the queue.

        A controller that lost its state gives ids a second time, so the name must fit, too.
        """
        queued = queue.get(self.job)
        return queued if queued is not None and queued.name == self.token else None

    def may_have_ended(self, asked: float, now: float) -> bool:
        """Return whether it is missing from an answer, ``asked`` for, that is recent enough."""
        if self.missing_since is None:
            return False
        if self.left is not None:
            return asked >= self.left
        return now - self.submitted >= FRESH_SECONDS

    def has_ended(self, absence_seconds: float, now: float) -> bool:
        """Return whether it is settled that one which may have ended has."""
        if self.cause or (self.left is not None and not self.leaving):
            return True
        final = self.account is not None and self.account.state in _FINAL
        if final and not self.leaving:
            absence_seconds = min(SETTLING_SECONDS, absence_seconds)
        return now - (self.missing_since or now) >= absence_seconds

    def why_it_ended(self, output: Path) -> str:
        """Return the cause as accounting, its ``output`` or its last state tell it."""
        if self.cause:
            return self.cause
        state = self.account.state if self.account else ""
        # Without accounting, and without cgroups, the output is all that says so.
        if state in ("", "FAILED") and (said := last_words(output)):
            return said
        if cause := _CAUSES.get(state):
            return cause
        if self.left is not None:
            return "it ended with an error"
        return f"state {state}" if state else "lost: neither in the queue nor in accounting"


class BadNodes:
    """Nodes that spoiled two tasks within ``seconds``, by no fault of a candidate."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._charges: set[tuple[str, float]] = set()

    def names(self) -> list[str]:
        """Return those to leave out for now."""
        since = time.time() - self.seconds
        recent = Counter(node for node, when in self._charges if when >= since)
        return sorted(node for node, count in recent.items() if count >= 2)

    def blame(self, node: str, when: float) -> bool:
        """Note that a task failed there at ``when``; True where that makes it a bad one."""
        before = self.names()
        self._charges.add((node, when))
        return node in self.names() and node not in before

    def forgive(self) -> None:
        """Forget all charges."""
        self._charges.clear()


def pickled_ids(folder: Path, elements: int) -> list[str]:
    """Return the job ids of a submission from the names that submitit gave its pickles.

    Empty unless all of the elements have theirs: submitit renames them after sbatch.
    """
    found = [p.name.removesuffix("_submitted.pkl") for p in folder.glob("*_submitted.pkl")]
    ids = sorted(found, key=lambda job: [int(part) for part in job.split("_")])
    return ids if len(ids) == elements else []


def last_words(output: Path) -> str:
    """Return why a job ended, if its output says so; else an empty text."""
    try:
        text = output.read_bytes()[-20_000:].decode("utf-8", "replace")
    except OSError:
        return ""
    return next((cause for pattern, cause in _LAST_WORDS if re.search(pattern, text, re.I)), "")
