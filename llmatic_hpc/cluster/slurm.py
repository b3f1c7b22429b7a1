"""Tasks as elements of Slurm job arrays, through submitit.

submitit writes the array's script and pickles what an element runs. Everything after that is
done here, because a run that lasts a week meets what submitit leaves open (its version 1.5):
it looks at states every ten minutes, takes a node failure that Slurm has already requeued for
an end, and loses an array whose submission was interrupted.

An element's end is known, in this order, from

1. the file in which submitit pickles its result: it has left by itself;
2. the queue: it is waiting, running, or held for good;
3. its absence from the queue: at once where accounting has a final state, too, and otherwise
   after ``cluster.absence_seconds`` without a break. A queue that does not answer says nothing.

Submissions are idempotent by their token, the job's name. An array whose submission was
interrupted never gets all of its pickles: whoever comes next ends it by name and submits again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError

from ..config import ClusterSettings
from ..errors import ClusterError
from . import refusals, scheduler
from .backend import (
    INTERRUPTED,
    Backend,
    ClusterBusyError,
    Ending,
    Nodes,
    Task,
    exit_code,
)
from .element import FRESH_SECONDS, BadNodes, Element, pickled_ids
from .launch import array_of, submission_folder
from .scheduler import Queued
from .site import Site

log = logging.getLogger(__name__)

LEAST_QUEUE_SECONDS, MOST_QUEUE_SECONDS = 2.0, 60.0
"""Pauses between two looks at the queue: short after a change, long when nothing happens."""
GROWTH = 1.25
LEAVING_SECONDS = 20.0
"""Time that a task with its results written may take to leave when the run is over."""


@dataclass(eq=False)
class SlurmBackend(Backend):
    """Arrays that go on without their coordinator and are adopted by the next one.

    ``clock`` and ``sleep`` are for tests.
    """

    outlives = True

    run_task: Callable[[Path], int]
    settings: ClusterSettings
    site: Site
    _: KW_ONLY
    site_file: Path | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _elements: dict[Path, Element] = field(default_factory=dict, init=False)
    _queue: dict[str, Queued] = field(default_factory=dict, init=False)
    _asked: float = field(default=-MOST_QUEUE_SECONDS, init=False)
    _accounted: float = field(default=-MOST_QUEUE_SECONDS, init=False)
    _queue_pause: float = field(default=LEAST_QUEUE_SECONDS, init=False)
    _silent: bool = field(default=False, init=False)
    _doubtful: set[str] = field(default_factory=set, init=False)
    """Names of submissions that were interrupted: none of their jobs may run."""
    _told: set[tuple[str, str]] = field(default_factory=set, init=False)
    """Reasons for waiting that were told, by name of the submission."""
    _largest: int = field(default=sys.maxsize, init=False)
    """Elements that one submission may have after the last one was refused."""
    _is_full: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._array = array_of(self.settings, self.site, self.site_file)
        self._bad_nodes = BadNodes(60 * self.settings.exclude_minutes)
        self.pause_seconds = self.settings.poll_seconds

    # --- what was submitted before --------------------------------------------------------------

    def adopt(self, submissions: Mapping[str, Mapping[Path, str]]) -> None:
        now = self.clock()
        before, self._elements = self._elements, {}
        for token, jobs in submissions.items():
            ids = list(jobs.values())
            if not all(ids):
                ids = pickled_ids(submission_folder(next(iter(jobs)), token), len(jobs))
            if not ids:
                log.warning("%s: its submission was interrupted; submitted again", token)
                self._doubtful.add(token)
            for folder, job in zip(jobs, ids, strict=False):
                known = before.get(folder)
                if known is None or known.token != token:
                    known = Element(job, token, now - FRESH_SECONDS)
                self._elements[folder] = known
        self._end_doubtful()

    def _end_doubtful(self) -> None:
        self._doubtful = {name for name in self._doubtful if not scheduler.cancel_named(name)}

    # --- submitting -----------------------------------------------------------------------------

    def room(self, alive: int) -> int:
        limits = self._limits
        room = min(limits.array_size or sys.maxsize, self._largest)
        if limits.submitted:
            # The coordinator's own job and whatever else the user runs count, too.
            self._look(at_least_every=LEAST_QUEUE_SECONDS)
            others = self._queue.keys() - {element.job for element in self._elements.values()}
            if limits.submitted <= len(others) and not alive:
                self._explain_full(limits.submitted, len(others - {own_job()}))
            # An element that has left counts until Slurm has seen to its end.
            ours = {
                element.job
                for element in self._elements.values()
                if element.job in self._queue or element.submitted >= self._asked
            }
            room = min(room, limits.submitted - len(others) - max(alive, len(ours)))
        return max(0, room)

    def _explain_full(self, limit: int, others: int) -> None:
        if not others:
            raise ClusterError(
                f"you may have {limit} jobs in the queue (MaxSubmitJobs), and the coordinator's "
                "is one: there is no room for an array. Ask for more, set another array.qos or "
                "array.account in the site file, or train in the coordinator's own job with "
                "--set cluster.kind=local"
            )
        if not self._is_full:
            log.warning("you may have %d jobs in the queue, and %d others are there: waiting",
                        limit, others)  # fmt: skip
        self._is_full = True

    @cached_property
    def _limits(self) -> scheduler.Limits:
        wanted = self._array.resources
        told = scheduler.limits(account=wanted.account, qos=wanted.qos)
        size = wanted.max_array_size or told.array_size
        submitted = wanted.max_submit or told.submitted
        log.info("at most %s elements in an array, %s in the queue (0: no limit known)",
                 size, submitted)  # fmt: skip
        return scheduler.Limits(size, submitted)

    def submit(
        self, folders: Sequence[Path], token: str, *, time_factor: int = 1, avoid: Nodes = ()
    ) -> list[str]:
        if shutil.which("sbatch") is None:
            raise ClusterError(
                "cluster.kind = 'slurm', but there is no sbatch here. Run the coordinator where "
                "Slurm's commands are (a login node, or a job: llmatic submit), or search on this "
                "machine with --set cluster.kind=local"
            )
        bad = sorted({*self._bad_nodes.names(), *avoid})
        try:
            jobs = self._sbatch(folders, token, time_factor=time_factor, exclude=bad)
        except ClusterBusyError:
            raise
        except ClusterError as error:
            if not bad:
                raise
            log.warning("without %s: %s; submitted again with them", ", ".join(bad), error)
            self._bad_nodes.forgive()
            jobs = self._sbatch(folders, token, time_factor=time_factor)
        now = self.clock()
        for path, job in zip(folders, jobs, strict=True):
            self._elements[path] = Element(job, token, now)
        log.info("submitted %s: %d elements, job %s", token, len(jobs), jobs[0].split("_")[0])
        self._largest, self._is_full = min(sys.maxsize, 2 * self._largest), False
        self._changed()
        return jobs

    def _sbatch(self, folders: Sequence[Path], token: str, **how: Any) -> list[str]:
        folder = submission_folder(folders[0], token)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tasks = [Task(self.run_task, path) for path in folders]
        try:
            with self._array.executor(folder, **self._array.parameters(token, **how)) as executor:
                return [str(job.job_id) for job in executor.submit_array(tasks)]
        except (FailedJobError, FailedSubmissionError) as e:
            raise self._refusal(str(e), token, len(folders)) from None
        except OSError as error:
            self._doubtful.add(token)
            raise ClusterError(f"{folder}: nothing could be submitted: {error}") from error

    def _refusal(self, said: str, token: str, elements: int) -> ClusterError:
        """Return the error that a refusal stands for; a busy one is worth another call."""
        # submitit adds the call of sbatch and its own trace.
        lines = [line for line in said.splitlines() if "sbatch: " in line] or [said]
        said = refusals.sentence("\n".join(lines))
        if refusals.is_unsure(said):
            # The controller may have taken it: its jobs find no pickles, and go by their name.
            self._doubtful.add(token)
            self._end_doubtful()
            return ClusterBusyError(f"sbatch: {said}")
        if refusals.is_busy(said):
            self._look(at_least_every=0.0)
            if elements > 1 or self._queue.keys() - {own_job()}:
                self._largest = max(1, elements // 2)
                return ClusterBusyError(f"sbatch refuses {elements} more elements for now: {said}")
        return ClusterError(self._array.explain(said))

    def blame(self, node: str, when: float) -> None:
        if self._bad_nodes.blame(node, when):
            log.warning(
                "node %s has spoiled two tasks: left out for %.0f minutes",
                node,
                self._bad_nodes.seconds / 60,
            )

    # --- following ------------------------------------------------------------------------------

    def alive(self, folders: Iterable[Path]) -> set[Path]:
        followed = {f: self._elements[f] for f in folders if f in self._elements}
        self._note_left(followed)
        unsure = {f: e for f, e in followed.items() if e.left is None or exit_code(f) != "0"}
        if unsure:
            self._look(at_least_every=self._queue_pause)
        gone = {f: e for f, e in unsure.items() if e.may_have_ended(self._asked, self.clock())}
        if gone:
            if self._accounted < self._asked:
                self._account(gone.values())
            now = self.clock()
            gone = {
                f: e for f, e in gone.items() if e.has_ended(self.settings.absence_seconds, now)
            }
            self._changed()
        else:
            self.pause_seconds = min(GROWTH * self.pause_seconds, 10 * self.settings.poll_seconds)
        return unsure.keys() - gone.keys()

    def _note_left(self, elements: Mapping[Path, Element]) -> None:
        """Note whose result submitit has pickled, by one listing for each submission."""
        names: dict[Path, set[str]] = {}
        for folder, element in elements.items():
            if element.left is None:
                where = submission_folder(folder, element.token)
                if where not in names:
                    names[where] = set()
                    with contextlib.suppress(OSError):
                        names[where].update(os.listdir(where))
                if f"{element.job}_0_result.pkl" in names[where]:
                    element.left = self.clock()
                    self._changed()

    def _look(self, *, at_least_every: float) -> None:
        now = self.clock()
        if now - self._asked < at_least_every:
            return
        self._asked = now
        answer = scheduler.queue()
        if answer is None:
            if not self._silent:
                log.warning("squeue does not answer; until it does, tasks count as running")
            self._silent = True
            # An absence that nobody could see is none.
            for element in self._elements.values():
                element.missing_since = None
            return
        if self._silent:
            log.info("squeue answers again")
        self._silent = False
        self._queue = answer
        self._queue_pause = min(GROWTH * self._queue_pause, MOST_QUEUE_SECONDS)
        if self._doubtful:
            self._end_doubtful()
        held = []
        for element in self._elements.values():
            queued = element.line_in(self._queue)
            state = queued.state if queued else ""
            if state != element.state:
                element.state = state
                self._changed()
            element.leaving = queued is not None and queued.is_leaving
            if queued is None or queued.is_leaving or queued.is_held:
                if element.missing_since is None:
                    element.missing_since = now
                if queued is not None and queued.is_held:
                    element.cause = f"held: {queued.reason}"
                    held.append(element.job)
            else:
                element.missing_since = None
                element.node = queued.node or element.node
                if queued.is_stuck and (element.token, queued.reason) not in self._told:
                    self._told.add((element.token, queued.reason))
                    log.warning(
                        "%s waits, and will as long as Slurm says: %s. Look at it with 'squeue "
                        "--me --name=%s'; 'scancel --name=%s' ends it, and it is submitted again",
                        element.token, queued.reason, element.token, element.token,
                    )  # fmt: skip
        if held:
            scheduler.cancel(held)

    def _account(self, elements: Collection[Element]) -> None:
        self._accounted = self.clock()
        known = scheduler.accounts(element.job for element in elements)
        for element in elements:
            account = known.get(element.job)
            # Ids are used again: an answer about another job's name is about another job.
            if account is not None and account.name == element.token:
                element.account = account
                element.node = account.node or element.node

    def _changed(self) -> None:
        self.pause_seconds = self.settings.poll_seconds
        self._queue_pause = LEAST_QUEUE_SECONDS

    def standing(self, folders: Collection[Path]) -> str:
        if self._silent:
            return f"squeue does not answer about {len(folders)}"
        found = [self._elements[f].line_in(self._queue) for f in folders if f in self._elements]
        waiting = [q for q in found if q is not None and (q.is_waiting or q.is_held)]
        running = [q for q in found if q is not None and q.node and not q.is_waiting]
        why = ", ".join(f"{n} {reason}" for reason, n in Counter(q.reason for q in waiting).items())
        nodes = ", ".join(sorted({q.node for q in running}))
        parts = [
            f"{len(running)} running on {nodes}" if running else "",
            f"{len(waiting)} in the queue: {why}" if waiting else "",
        ]
        return "; ".join(filter(None, parts)) or f"{len(folders)} submitted"

    # --- the end --------------------------------------------------------------------------------

    def job(self, folder: Path) -> str:
        element = self._elements.get(folder)
        return element.job if element and element.missing_since is None else ""

    def ending(self, folder: Path) -> Ending:
        element = self._elements.get(folder)
        if element is None:
            return Ending(INTERRUPTED)
        output = submission_folder(folder, element.token) / f"{element.job}_0_log.out"
        seconds = element.account.seconds if element.account else 0.0
        cause = element.why_it_ended(output)
        # Slurm gave up starting it: no node has had it, so none is to blame.
        node = "" if cause == element.cause else element.node
        return Ending(cause, node, seconds, output)

    def stop(self, folders: Iterable[Path]) -> None:
        elements = [self._elements[f] for f in folders if f in self._elements]
        jobs = [e.job for e in elements if e.job not in self._queue or e.line_in(self._queue)]
        if jobs and not scheduler.cancel(jobs):
            log.warning("scancel does not answer; end by hand what is left: scancel %s",
                        " ".join(jobs[:5]))  # fmt: skip
        self._asked = -MOST_QUEUE_SECONDS

    def end(self, prefix: str) -> None:
        """Cancel what is left in the queue: a controller that was away may start elements again.

        What is on its way out may take ``LEAVING_SECONDS``; what waits is not needed.
        """
        deadline = self.clock() + LEAVING_SECONDS
        while (queue := scheduler.queue()) is not None:
            ours = [q for q in queue.values() if q.name.startswith(prefix) and not q.is_leaving]
            late = self.clock() >= deadline
            if idle := [q.job for q in ours if late or q.is_waiting or q.is_held]:
                log.info("no longer needed: %s", " ".join(idle))
                scheduler.cancel(idle)
            if late or not ours:
                return
            self.sleep(LEAST_QUEUE_SECONDS)
        log.warning(
            "squeue does not answer: see with 'squeue --me' that no job %s* is left", prefix
        )


def own_job() -> str:
    """Return the id of the job that this process runs in; empty if it is in none."""
    return os.environ.get("SLURM_JOB_ID", "")
