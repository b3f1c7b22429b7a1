"""The protocol of a backend, and what goes in and out of a dispatcher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..records import Result

TASK_FILE = "task.json"
"""In a task's folder: what to evaluate. Written before the task is submitted."""

HANDED_BACK = "handed_back"
"""In a task's folder: the worker was asked to stop, saved everything and left."""


@dataclass(frozen=True)
class Work:
    """A candidate to be evaluated."""

    candidate: int
    index: int
    """Position in the generation's batch."""
    source_sha256: str
    flops: float
    """Multiply-adds for one image; how long it will take, relative to others."""


@dataclass(frozen=True)
class Gathered:
    """The result that counts for a candidate."""

    result: Result
    attempts: int
    """Evaluations that were started, this one included."""
    queue_seconds: float
    """From the submission of its task to its start."""


class Backend(Protocol):
    """Starts tasks. Knows nothing of candidates, results or retries."""

    pause_seconds: float
    """Between two looks at what became of the tasks."""

    def room(self, alive: int) -> int:
        """How many more tasks may be started while ``alive`` are."""
        ...

    def submit(self, folders: Sequence[Path]) -> list[str]:
        """Start the tasks in ``folders``; returns the ids to record.

        Raises :class:`~llmatic_hpc.errors.ClusterError` when they cannot be started.
        """
        ...

    def alive(self, folders: Iterable[Path]) -> set[Path]:
        """Those of ``folders`` whose task runs or waits, whoever submitted it."""
        ...

    def stop(self, folders: Iterable[Path]) -> None:
        """Ask tasks to save their state and leave. Returns at once."""
        ...
