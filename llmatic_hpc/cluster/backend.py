"""The protocol of a back end, and what goes in and out of a dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import ClusterError
from ..types import Result

TASK_FILE = "task.json"
"""In a task's folder: what to evaluate. Written before the task is submitted."""

ENDED = "ended"
"""In a task's folder, written by the task itself as its last act: 0, or 75 where it was asked
to stop, saved everything and left."""

HANDED_BACK = "75"


@dataclass(frozen=True)
class Work:
    """A candidate to be evaluated."""

    candidate: int
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


@dataclass(frozen=True)
class Started:
    """A task that was submitted, or was about to be, as the journal has it."""

    folder: Path
    token: str
    """Of the submission that it belongs to; the job's name where jobs have names."""
    position: int
    """Within the submission, from 0."""
    job: str
    """The id that the scheduler gave; empty if that was not written down."""


def submission_prefix(run_id: str) -> str:
    """What the names of all submissions of a run begin with, and of no other run."""
    return f"llmatic-{run_id[:12]}-g"


class ClusterBusyError(ClusterError):
    """The scheduler takes no more for now: try again later. Nothing was submitted."""


@dataclass(frozen=True)
class Ending:
    """How a task has ended, as far as the scheduler knows."""

    cause: str = ""
    node: str = ""
    """Where it ran last."""
    seconds: float = 0.0
    """How long it ran."""
    output: Path | None = None
    """What it printed."""


OUT_OF_MEMORY = "out of memory"
TIME_OUT = "time limit"
PREEMPTED = "preempted"
CANCELLED = "cancelled"
INTERRUPTED = "its submission was interrupted"
"""Causes that decide what is tried again; any other text is just told."""


class Backend(Protocol):
    """Starts tasks. Knows nothing of candidates, results or retries."""

    pause_seconds: float
    """Between two looks at what became of the tasks."""

    outlives: bool
    """Whether tasks go on when the coordinator is asked to stop."""

    def adopt(self, started: Sequence[Started]) -> None:
        """Follow what an earlier coordinator submitted."""
        ...

    def room(self, alive: int) -> int:
        """How many more tasks may be submitted while ``alive`` are."""
        ...

    def submit(self, folders: Sequence[Path], token: str, *, time_factor: int = 1) -> list[str]:
        """Start the tasks in ``folders``; returns the ids to record.

        Raises :class:`ClusterBusyError` when they may be taken later, and
        :class:`~llmatic_hpc.errors.ClusterError` when a person has to change something.
        """
        ...

    def alive(self, folders: Iterable[Path]) -> set[Path]:
        """Those of ``folders`` whose task runs or waits, or of which nothing is known yet."""
        ...

    def job(self, folder: Path) -> str:
        """Id of a task that was submitted or adopted; empty where it has none."""
        ...

    def ending(self, folder: Path) -> Ending:
        """How a task that is not alive has ended."""
        ...

    def blame(self, node: str, when: float) -> None:
        """A task failed there at ``when`` (seconds since 1970) by no fault of a candidate."""
        ...

    def stop(self, folders: Iterable[Path]) -> None:
        """Ask tasks to save their state and leave. Returns at once."""
        ...

    def end(self, prefix: str) -> None:
        """The run is over: end what is left of submissions whose names begin with ``prefix``."""
        ...


class Task:
    """What submitit pickles: a folder and the function to call with it, nothing that ages.

    The worker function owns the signals while it runs (submitit installs its handlers before
    it calls us), so submitit's own checkpoint is only for a signal that comes before or after;
    then the same call is simply due again.
    """

    def __init__(self, run_task: Callable[[Path], int], folder: Path) -> None:
        self.run_task = run_task
        self.folder = folder

    def __call__(self) -> int:
        marker = self.folder / ENDED
        marker.unlink(missing_ok=True)  # a requeued job runs a second time
        code = self.run_task(self.folder)
        marker.write_text(str(code))
        return code

    def checkpoint(self) -> object:
        """submitit's hook: what to run after a requeue."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    __submitit_checkpoint__ = checkpoint


def was_handed_back(folder: Path) -> bool:
    """Whether a task was asked to stop and saved everything."""
    try:
        return (folder / ENDED).read_text() == HANDED_BACK
    except OSError:
        return False
