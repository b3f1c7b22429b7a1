"""Submit, adopt, gather, retry: one generation's candidates until each has its result.

What counts is on disk: the journal says what was submitted, result files say what is done.
So the same call continues after any crash: it reads the results that are there, follows the
tasks that still run, and submits only what neither covers.

What is tried again, and at whose cost:

=============================================  ================================================
a task ended and some candidate has no result   what follows
=============================================  ================================================
it was asked to stop, was preempted, or died    again, free of charge
with an earlier coordinator
the machine failed (node, lost, worker)         again, at most ``cluster.max_attempts`` failures;
                                                then ``infrastructure``
out of memory, among others                     again, alone
out of memory, alone                            ``too_large``
its time limit                                  again, alone with twice the time; then ``too_slow``
a GPU was lost in the middle of a training      again, alone, on another node; then, where a kernel
                                                went astray, ``invalid``, else ``infrastructure``
=============================================  ================================================
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import groupby, islice
from pathlib import Path

from ..config import ClusterSettings, accelerators
from ..errors import Interrupted
from ..rundir import files
from ..rundir.paths import RunPaths
from ..types import Attempt, Outcome, Result
from .backend import (
    CANCELLED,
    HANDED_BACK,
    INTERRUPTED,
    LOST_DEVICE,
    OUT_OF_MEMORY,
    PREEMPTED,
    TIME_OUT,
    Backend,
    ClusterBusyError,
    Ending,
    Gathered,
    Nodes,
    Work,
    exit_code,
    wait_until,
)
from .journal import Item, Journal
from .placement import pack, task_count

log = logging.getLogger(__name__)

LOG_TAIL_BYTES = 20_000
LEAST_BUSY_SECONDS, MOST_BUSY_SECONDS = 5.0, 300.0
LEAVING_SECONDS = 10.0
"""A task whose results are all in is given so long to end by itself."""

OWN_FAULT = {OUT_OF_MEMORY: "too_large", TIME_OUT: "too_slow"}
FREE = (PREEMPTED, INTERRUPTED, *OWN_FAULT)
"""Endings that cost the candidates of a task no retry."""

LOSSES = {PREEMPTED: "preempted", OUT_OF_MEMORY: "limit", TIME_OUT: "limit"}
"""Kinds of seconds that a task ran in vain; after any other ending ``machine``."""


@dataclass(eq=False)
class Dispatcher:
    """Evaluation of one generation's candidates on a back end."""

    paths: RunPaths
    backend: Backend
    settings: ClusterSettings
    _: KW_ONLY
    name: str
    """Unique to run and generation; begins the names of submissions."""
    parallelism: int
    write_task: Callable[[Path, Sequence[tuple[Work, int]]], None]
    """Writes into a new task folder what a worker needs for candidates and attempts."""
    read_result: Callable[[Path, Work], Result | None]
    """Returns the valid result in a file, or None."""
    wait: Callable[[float], bool]
    """Pauses for so many seconds and returns True when the run was asked to stop."""
    waits: Callable[[str], None] = lambda standing: None
    """Told at every look where the tasks stand that results are waited for from."""
    leave: Callable[[Sequence[str]], None] | None = None
    """Called with the ids of jobs when everything that is due is submitted; it may raise
    :class:`Interrupted` to let a later coordinator gather the results."""
    grace_seconds: float = 60.0
    _busy_until: float = field(default=0.0, init=False)
    _busy_seconds: float = field(default_factory=lambda: LEAST_BUSY_SECONDS, init=False)
    _wanted: dict[int, Work] = field(default_factory=dict, init=False)
    _done: dict[int, Gathered] = field(default_factory=dict, init=False)

    def run(
        self,
        work: Sequence[Work],
        *,
        enough: int | None = None,
        on_result: Callable[[Result], None] = lambda result: None,
    ) -> dict[int, Gathered]:
        """Evaluate ``work`` and return each candidate's result by its number.

        With ``enough`` of them the rest is not waited for beyond :func:`is_patience_over`. Its
        tasks go on; a later call with these candidates among its ``work`` goes on with them.
        Raises :class:`Interrupted` when asked to stop, after workers that do not outlive the
        coordinator have saved their state, and :class:`~llmatic_hpc.errors.ClusterError`
        when nothing can be submitted.
        """
        for folder in (self.paths.results, self.paths.tasks, self.paths.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        wanted = self._wanted = {item.candidate: item for item in work}
        done = self._done = {}
        enough = len(work) if enough is None else enough
        began, arrived = time.time(), list[float]()
        self._journal = journal = Journal(self.paths.journal)
        followed = self._adopt()
        inherited = set(followed)
        covered = {i[0] for items in followed.values() for i in items if journal.state.is_latest(i)}
        untouched = wanted.keys() - covered
        queue: list[list[Work]] = []
        is_first = True
        while True:
            # In this order: a result written before its task ended is seen in the same turn.
            alive = self.backend.alive(followed)
            fresh = self._scan()
            done.update(fresh)
            ended = [folder for folder in followed if folder not in alive]
            again, lost = self._settle(ended, followed, inherited)
            done.update(lost)
            for gathered in (*fresh.values(), *lost.values()):
                arrived.append(gathered.result.finished or time.time())
                on_result(gathered.result)
            queue += self._plan([wanted[c] for c in sorted(again | untouched)])
            inherited, untouched = set(), set()
            late = not queue and is_patience_over(
                arrived, enough, submitted=self._submitted, began=began, now=time.time()
            )
            if late or len(done) == len(wanted):
                self._let_go(followed, wanted.keys() - done.keys())
                return done
            started = self._submit(queue, len(followed))
            followed |= started
            jobs = [self.backend.job(folder) for folder in followed]
            # One that is missing from the queue is settled first: no later job could wait for it.
            if not any(jobs) or all(jobs):
                if self.leave is not None and jobs and not queue and (started or is_first):
                    self.leave(jobs)
                is_first = False
            self.waits(self._standing(followed, queue))
            if self.wait(self.backend.pause_seconds):
                if not self.backend.outlives:
                    self._stop(list(followed))
                raise Interrupted("the run was asked to stop; every finished result is saved")

    def _standing(self, followed: Collection[Path], queue: Sequence[Sequence[Work]]) -> str:
        due = f"to be submitted: {len(queue)}" if queue else ""
        return "; ".join(filter(None, (self.backend.standing(followed), due)))

    @property
    def lost(self) -> dict[str, float]:
        """Seconds that tasks of this generation ran in vain, by kind (see :mod:`.journal`)."""
        return dict(self._journal.state.lost[self.name])

    def _adopt(self) -> dict[Path, list[Item]]:
        """Follow what was started before and is not settled; return the items by task's folder."""
        state = self._journal.state
        tokens = state.tokens_of(self._wanted)
        submissions: dict[str, dict[Path, str]] = {}
        followed = {}
        for name, entry in state.tasks.items():
            # A submission is adopted as a whole, and only what is wanted of it is followed.
            if entry.token in tokens:
                folder = self.paths.tasks / name
                submissions.setdefault(entry.token, {})[folder] = entry.job
                if name not in state.ended and any(c in self._wanted for c, _ in entry.items):
                    followed[folder] = entry.items
        self.backend.adopt(submissions)
        for node, when in state.blamed.values():
            self.backend.blame(node, when)
        return followed

    @property
    def _submitted(self) -> float:
        """Time of the first of this generation's own submissions; infinity where there is none."""
        entries = self._journal.state.tasks.values()
        own = (entry.time for entry in entries if entry.token.startswith(f"{self.name}-"))
        return min(own, default=math.inf)

    # --- results ------------------------------------------------------------------------------

    def _scan(self) -> dict[int, Gathered]:
        """Return new results: for each candidate the valid one of the lowest attempt."""
        due = self._wanted.keys() - self._done.keys()
        names = (path.name.split(".") for path in self.paths.results.glob("*.*.json"))
        pairs = sorted((int(n[0]), int(n[1])) for n in names if n[0].isdigit() and n[1].isdigit())
        found: dict[int, Gathered] = {}
        for candidate, attempt in pairs:
            if candidate in due and candidate not in found:
                path = self.paths.result(candidate, attempt)
                result = self.read_result(path, self._wanted[candidate])
                if result is None and not files.can_be_read(path):
                    log.warning("%s cannot be read: the next look tries again", path.name)
                elif result is None:
                    log.warning("%s is no valid result of this candidate: ignored", path.name)
                    path.replace(path.with_suffix(".ignored"))
                elif result.outcome.status != "infrastructure":
                    found[candidate] = self._gathered(result, (candidate, attempt))
        return found

    def _gathered(self, result: Result, item: Item) -> Gathered:
        state = self._journal.state
        since = next((e.time for e in state.tasks.values() if item in e.items), result.started)
        waited = max(0.0, result.started - since)
        return Gathered(result, state.attempts[item[0]], waited, self._tries(item, result))

    def _tries(self, item: Item, result: Result) -> tuple[Attempt, ...]:
        """Return all attempts at a candidate, of which ``item`` brought its ``result``."""

        def told(other: Item) -> Result | None:
            path = self.paths.result(*other)
            if other == item and result.run_id:
                return result
            return self.read_result(path, self._wanted[other[0]]) if path.exists() else None

        return self._journal.state.tries(item[0], self.paths.rung, told)

    # --- what ended without ---------------------------------------------------------------------

    def _settle(
        self, ended: Sequence[Path], followed: dict[Path, list[Item]], inherited: set[Path]
    ) -> tuple[set[int], dict[int, Gathered]]:
        """Forget tasks that ended; return the candidates to try again and those given up."""
        state, due = self._journal.state, self._wanted.keys() - self._done.keys()
        again: set[int] = set()
        given_up: dict[int, Gathered] = {}
        for folder in ended:
            items = followed.pop(folder)
            if missing := [item for item in items if item[0] in due and state.is_latest(item)]:
                outcomes = self._outcomes(folder, items, missing, folder in inherited)
                again |= {candidate for (candidate, _), outcome in outcomes if outcome is None}
                lost = {item[0]: self._given_up(item, o) for item, o in outcomes if o is not None}
                given_up |= lost
                if charge := state.blamed.get(folder.name):
                    self.backend.blame(*charge)
                if not lost:
                    self._journal.write("ended", task=folder.name)
            shutil.rmtree(folder, ignore_errors=True)
        return again, given_up

    def _outcomes(
        self, folder: Path, items: Sequence[Item], missing: Sequence[Item], inherited: bool
    ) -> list[tuple[Item, Outcome | None]]:
        """Decide about the ``missing`` candidates of a task that ended; None: try again."""
        handed_back = exit_code(folder) == HANDED_BACK
        ending = Ending() if handed_back else self.backend.ending(folder)
        # What died with the coordinator that started it is no fault of the machine's.
        free = handed_back or (inherited and not self.backend.outlives)
        # A task takes its candidates in order: a limit was met by those that it was at.
        at_once = self.settings.workers_per_task if ending.cause in OWN_FAULT else 0
        if not handed_back:
            self._keep_log(folder, ending)
            done = [self._done[c].result.outcome for c, _ in items if c in self._done]
            self._journal.write(
                "lost",
                task=folder.name,
                kind=LOSSES.get(ending.cause, "machine"),
                cause=ending.cause,
                node=ending.node,
                seconds=max(0.0, ending.seconds - sum(one.train_seconds for one in done)),
                by=self.name,
            )
        return [
            *((i, self._after_limit(i, ending.cause, len(items) == 1)) for i in missing[:at_once]),
            *((i, self._after_failure(i, folder.name, ending, free)) for i in missing[at_once:]),
        ]

    def _after_limit(self, item: Item, cause: str, alone: bool) -> Outcome | None:
        """Decide about a candidate that may itself have met a limit; None: try again."""
        candidate, attempt = item
        known = any(
            c == cause and a != attempt for c, a in self._journal.state.suspected[candidate]
        )
        self._journal.write("suspected", item=item, cause=cause)
        log.warning("candidate %d, attempt %d: %s", candidate, attempt, cause)
        if known or (alone and cause == OUT_OF_MEMORY):
            more = ", with twice the time, too" if cause == TIME_OUT else ", alone in its task"
            return Outcome(OWN_FAULT[cause], f"its task met the limit: {cause}{more}")
        return None

    def _after_failure(self, item: Item, task: str, ending: Ending, free: bool) -> Outcome | None:
        """Decide about a candidate that no worker evaluated; None: try again."""
        (candidate, attempt), cause = item, ending.cause
        path = self.paths.result(*item)
        result = self.read_result(path, self._wanted[candidate]) if path.exists() else None
        reason, node = (result.outcome.failure, result.node) if result else ("", "")
        if not reason and (free or cause in FREE):
            return None
        reason = reason or f"its task ended without a result{f' ({cause})' if cause else ''}"
        node = node or (ending.node if cause != CANCELLED else "")
        fault = accelerators.fault(reason)
        # A kernel that went astray may be the candidate's own doing: no node is charged for it.
        charged = "" if fault == accelerators.KERNEL else node
        self._journal.write("failed", item=item, reason=reason, task=task, node=charged)
        log.warning("candidate %d, attempt %d: %s", candidate, attempt, reason)
        if fault in accelerators.LOST:
            causes = self._journal.state.suspected[candidate]
            before = any(c.startswith(LOST_DEVICE) and a != attempt for c, a in causes)
            self._journal.write("suspected", item=item, cause=LOST_DEVICE + node)
            if before:
                status = "invalid" if fault == accelerators.KERNEL else "infrastructure"
                return Outcome(status, f"twice, the second time alone: {reason}")
        failures = self._journal.state.failures(candidate)
        if failures < self.settings.max_attempts:
            return None
        log.error("candidate %d: given up after %d failures", candidate, failures)
        return Outcome("infrastructure", f"{failures} attempts failed, the last one: {reason}")

    def _given_up(self, item: Item, outcome: Outcome) -> Gathered:
        result = Result("", *item, self._wanted[item[0]].source_sha256, outcome)
        tries = self._tries(item, result)
        return Gathered(result, self._journal.state.attempts[item[0]], 0.0, tries)

    # --- submitting ---------------------------------------------------------------------------

    def _plan(self, work: Sequence[Work]) -> list[list[Work]]:
        """Plan tasks for candidates that have none: packed, but each suspect alone."""
        suspected, per_task = self._journal.state.suspected, self.settings.candidates_per_task
        packed = [item for item in work if item.candidate not in suspected]
        tasks = task_count(len(packed), parallelism=self.parallelism, per_task=per_task)
        alone = [[item] for item in work if item.candidate in suspected]
        return [*pack(packed, tasks, most=per_task), *alone]

    def _manner(self, task: Sequence[Work]) -> tuple[int, Nodes]:
        """Return how often a task gets the time limit: twice, if its candidate met it before; and
        the nodes to keep off: those on which it lost its device."""
        causes = [c for c, _ in self._journal.state.suspected.get(task[0].candidate, ())]
        nodes = {c.removeprefix(LOST_DEVICE) for c in causes if c.startswith(LOST_DEVICE)}
        return 2 if TIME_OUT in causes else 1, tuple(sorted(nodes - {""}))

    def _submit(self, queue: list[list[Work]], alive: int) -> dict[Path, list[Item]]:
        """Submit from the queue what there is room for; returns the items by task's folder."""
        started: dict[Path, list[Item]] = {}
        while queue and time.monotonic() >= self._busy_until:
            room = self.backend.room(alive + len(started))
            manner, alike = next(groupby(queue, self._manner))
            batch = list(islice(alike, room))
            if not batch:
                break
            tasks = [[w for w in task if w.candidate not in self._done] for task in batch]
            try:
                started |= self._start([task for task in tasks if task], *manner)
            except ClusterBusyError as error:
                log.warning("%s; again in %.0f s", error, self._busy_seconds)
                self._busy_until = time.monotonic() + self._busy_seconds
                self._busy_seconds = min(2 * self._busy_seconds, MOST_BUSY_SECONDS)
                break
            self._busy_seconds = LEAST_BUSY_SECONDS
            del queue[: len(batch)]
            if self.backend.pause_seconds == 0:
                break  # they have ended already: look at their results first
        return started

    def _start(
        self, tasks: Sequence[Sequence[Work]], factor: int, avoid: Nodes
    ) -> dict[Path, list[Item]]:
        if not tasks:
            return {}
        state = self._journal.state
        number = state.submissions
        token = f"{self.name}-{number}"
        started: dict[Path, list[Item]] = {}
        for n, task in enumerate(tasks):
            folder = self.paths.tasks / f"s{number:04d}-t{n:05d}"
            # A folder without a line in the journal is what a kill in between left behind.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            attempts = [(work, state.attempts[work.candidate] + 1) for work in task]
            self.write_task(folder, attempts)
            started[folder] = [(work.candidate, attempt) for work, attempt in attempts]
        announced = {folder.name: items for folder, items in started.items()}
        self._journal.write("submitting", token=token, tasks=announced)
        try:
            jobs = self.backend.submit(list(started), token, time_factor=factor, avoid=avoid)
        except ClusterBusyError:
            self._journal.write("refused", token=token)
            raise
        self._journal.write("submitted", jobs=dict(zip(announced, jobs, strict=True)))
        return started

    # --- leaving ------------------------------------------------------------------------------

    def _let_go(self, followed: Mapping[Path, list[Item]], out: Collection[int]) -> None:
        """End the tasks that have nothing more to do; the others go on for those still out."""
        if out:
            named = ", ".join(map(str, sorted(out)))
            log.info("enough results are in; going on without candidates %s", named)
        idle = [f for f, items in followed.items() if not any(i[0] in out for i in items)]
        self._stop(idle, leaving_seconds=LEAVING_SECONDS)

    def _stop(self, folders: Sequence[Path], *, leaving_seconds: float = 0.0) -> None:
        """Wait a bounded time for tasks to end by themselves, then as long after asking them to."""

        def gone() -> bool:
            return not self.backend.alive(folders)

        if not wait_until(gone, leaving_seconds, pause=0.05):
            self.backend.stop(folders)
            wait_until(gone, self.grace_seconds, pause=0.05)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _keep_log(self, folder: Path, ending: Ending) -> None:
        """Keep the end of a failed worker's output, before its folder goes."""
        try:
            text = ending.output.read_bytes()[-LOG_TAIL_BYTES:].strip() if ending.output else b""
        except OSError:
            return
        if text:
            self.paths.logs.mkdir(exist_ok=True)
            kept = self.paths.logs / f"{self.name}-{folder.name}.log"
            kept.write_bytes(text + b"\n")


def is_patience_over(
    arrived: Collection[float], enough: int, *, submitted: float, began: float, now: float
) -> bool:
    """Return whether to go on with the results that have ``arrived``, without the rest.

    Once ``enough`` are in, the rest is waited for as long again as it took from the submission
    until they were: so far it was no slower than the others. After a restart, from ``began``, the
    restart, on: time in which nobody could bring a result is held against no one. Times are
    seconds since 1970.
    """
    enough = max(1, enough)
    if len(arrived) < enough:
        return False
    complete = sorted(arrived)[enough - 1]
    return now - max(complete, began) > max(0.0, complete - submitted)
