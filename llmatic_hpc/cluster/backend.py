"""Protocol of a back end, and the values that go in and out of a dispatcher."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from submitit.helpers import Checkpointable

from ..errors import ClusterError
from ..types import Attempt, Result

ENDED = "ended"
"""File in a task's folder that the task writes last: 0, or 75 where it was asked to stop, saved
everything and left."""

HANDED_BACK = "75"

Nodes = Sequence[str]


@dataclass(frozen=True)
class Work:
    """A candidate to be evaluated."""

    candidate: int
    source_sha256: str
    flops: float
    """Multiply-adds for one example, by which tasks are balanced."""


@dataclass(frozen=True)
class Gathered:
    """Result that counts for a candidate."""

    result: Result
    attempts: int
    """Evaluations of the candidate that were started, this one included."""
    queue_seconds: float
    """Seconds from the submission of its task to its start."""
    tries: tuple[Attempt, ...] = ()
    """All attempts at the candidate, this one included."""


def submission_prefix(run_id: str) -> str:
    """Return how the names of all submissions of a run begin, and of no other run."""
    return f"llmatic-{run_id[:12]}-g"


class ClusterBusyError(ClusterError):
    """The scheduler takes no more for now, and nothing was submitted: try again later."""


@dataclass(frozen=True)
class Ending:
    """End of a task, as far as the scheduler knows."""

    cause: str = ""
    node: str = ""
    """Host that it ran on last."""
    seconds: float = 0.0
    """Run time."""
    output: Path | None = None
    """File with what it printed."""


OUT_OF_MEMORY = "out of memory"
TIME_OUT = "time limit"
PREEMPTED = "preempted"
CANCELLED = "cancelled"
LOST_DEVICE = "it lost its device on "
"""Beginning of a cause that ends with the name of the node."""
INTERRUPTED = "its submission was interrupted"
"""Causes on which retries depend; any other text is only reported."""


class Backend(Protocol):
    """Start tasks and say which are alive. A back end knows nothing of candidates or retries.

    What it need not do, such as to adopt tasks that it knows by their folders, does nothing.
    """

    pause_seconds: float
    """Pause between two looks at what became of the tasks."""

    outlives: bool
    """True where tasks go on when the coordinator is asked to stop."""

    def adopt(self, submissions: Mapping[str, Mapping[Path, str]]) -> None:
        """Follow what was submitted before, and nothing else: by token, tasks with their ids.

        The tasks are in the order of their submission; an id is empty where none was noted.
        """
        return

    def room(self, alive: int) -> int:
        """Return how many more tasks may be submitted while ``alive`` are."""
        ...

    def submit(
        self, folders: Sequence[Path], token: str, *, time_factor: int = 1, avoid: Nodes = ()
    ) -> list[str]:
        """Start the tasks in ``folders``, on other nodes than ``avoid``; return the ids to record.

        ``token`` names the submission; it is the job's name where jobs have names.

        Raises :class:`ClusterBusyError` when they may be taken later, and
        :class:`~llmatic_hpc.errors.ClusterError` when a person has to change something.
        """
        ...

    def alive(self, folders: Iterable[Path]) -> set[Path]:
        """Return those of ``folders`` whose task runs, waits, or is not known about yet."""
        ...

    def standing(self, folders: Collection[Path]) -> str:
        """Describe in words where tasks that have not ended stand, as far as it is known."""
        return f"tasks running: {len(folders)}" if folders else ""

    def job(self, folder: Path) -> str:
        """Return the id of a task that was submitted or adopted; empty where it has none, or where
        it is in no queue any more."""
        return ""

    def ending(self, folder: Path) -> Ending:
        """Return how a task that is not alive has ended."""
        return Ending()

    def blame(self, node: str, when: float) -> None:
        """Note that a task failed on ``node`` at ``when``, by no fault of a candidate.

        Times are seconds since 1970.
        """
        return

    def stop(self, folders: Iterable[Path]) -> None:
        """Ask tasks to save their state and leave; return at once."""
        return

    def end(self, prefix: str) -> None:
        """End what is left of submissions whose names begin with ``prefix``: the run is over."""
        return


@dataclass(frozen=True)
class Task(Checkpointable):
    """Call that submitit pickles: a function and the folder to call it with.

    The worker function owns the signals while it runs (submitit installs its handlers before
    it calls us), so submitit's own checkpoint is only for a signal before or after: the same call
    is then due again.
    """

    run_task: Callable[[Path], int]
    folder: Path

    def __call__(self) -> int:
        marker = self.folder / ENDED
        marker.unlink(missing_ok=True)  # a requeued job runs a second time
        code = self.run_task(self.folder)
        marker.write_text(str(code))
        return code


def exit_code(folder: Path) -> str:
    """Return what a task wrote as its last act, ``0`` or ``75``; empty where it did not."""
    try:
        return (folder / ENDED).read_text()
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool], seconds: float, pause: float) -> bool:
    """Look every ``pause`` whether a condition on other processes holds; False: never in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)  # other processes: nothing to wait on
    return True
