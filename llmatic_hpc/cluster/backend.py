"""Protocol of a back end, and the values that go in and out of a dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import ClusterError
from ..types import Result

"""File in a task's folder that says what to evaluate; written before it is submitted."""

ENDED = "ended"
"""File in a task's folder that the task writes last: 0, or 75 where it was asked to stop, saved
everything and left."""

HANDED_BACK = "75"


@dataclass(frozen=True)
class Work:
    """A candidate to be evaluated."""

    candidate: int
    source_sha256: str
    flops: float
    """Multiply-adds for one image, by which tasks are balanced."""


@dataclass(frozen=True)
class Gathered:
    """Result that counts for a candidate."""

    result: Result
    attempts: int
    """Evaluations of the candidate that were started, this one included."""
    queue_seconds: float
    """Seconds from the submission of its task to its start."""


@dataclass(frozen=True)
class Started:
    """Task that was submitted, or was about to be, according to the journal."""

    folder: Path
    token: str
    """Name of its submission; the job's name where jobs have names."""
    position: int
    """Position within the submission, from 0."""
    job: str
    """Id that the scheduler gave; empty where it was not written down."""


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

    def adopt(self, started: Sequence[Started]) -> None:
        """Follow what an earlier coordinator submitted."""
        return

    def room(self, alive: int) -> int:
        """Return how many more tasks may be submitted while ``alive`` are."""
        ...

    def submit(
        self,
        folders: Sequence[Path],
        token: str,
        *,
        time_factor: int = 1,
        avoid: Sequence[str] = (),
    ) -> list[str]:
        """Start the tasks in ``folders``, on other nodes than ``avoid``; return the ids to record.

        Raises :class:`ClusterBusyError` when they may be taken later, and
        :class:`~llmatic_hpc.errors.ClusterError` when a person has to change something.
        """
        ...

    def alive(self, folders: Iterable[Path]) -> set[Path]:
        """Return those of ``folders`` whose task runs, waits, or is not known about yet."""
        ...

    def job(self, folder: Path) -> str:
        """Return the id of a task that was submitted or adopted; empty where it has none."""
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


class Task:
    """Call that submitit pickles: a function and the folder to call it with.

    The worker function owns the signals while it runs (submitit installs its handlers before
    it calls us), so submitit's own checkpoint is only for a signal before or after: the same call
    is then due again.
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
        """Return what submitit runs after a requeue (its own hook)."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    __submitit_checkpoint__ = checkpoint


def exit_code(folder: Path) -> str:
    """Return what a task wrote as its last act, ``0`` or ``75``; empty where it did not."""
    try:
        return (folder / ENDED).read_text()
    except OSError:
        return ""
