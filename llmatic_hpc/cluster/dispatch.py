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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import ClusterSettings, accelerators
from ..errors import Interrupted
from ..rundir.paths import RunPaths
from ..types import Outcome, Result
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
    Started,
    Work,
    exit_code,
)
from .journal import Item, Journal
from .packing import pack, task_count
from .patience import Patience

log = logging.getLogger(__name__)

LOG_TAIL_BYTES = 20_000
LEAST_BUSY_SECONDS, MOST_BUSY_SECONDS = 5.0, 300.0
LEAVING_SECONDS = 10.0
"""A task whose results are all in is given so long to end by itself."""

OWN_FAULT = {OUT_OF_MEMORY: "too_large", TIME_OUT: "too_slow"}
FREE = (PREEMPTED, INTERRUPTED, *OWN_FAULT)
"""Endings that cost the candidates of a task no retry."""


@dataclass(frozen=True)
class Planned:
    """Task that is due."""

    items: list[Item]
    time_factor: int = 1
    avoid: tuple[str, ...] = ()
    """Nodes on which it lost its device."""


class Dispatcher:
    """Evaluation of one generation's candidates on a back end.

    ``name`` is unique to run and generation and begins the names of submissions.
    ``write_task(folder, items)`` writes what a worker needs into a new task folder.
    ``read_result(path, work)`` returns the valid result in ``path``, or None.
    ``wait(seconds)`` pauses and returns True when the run was asked to stop.
    ``leave(jobs)`` is called when everything that is due is submitted; it may raise
    :class:`Interrupted` to let a later coordinator gather the results.
    """

    def __init__(
        self,
        paths: RunPaths,
        backend: Backend,
        settings: ClusterSettings,
        *,
        name: str,
        parallelism: int,
        write_task: Callable[[Path, Sequence[tuple[Work, int]]], None],
        read_result: Callable[[Path, Work], Result | None],
        wait: Callable[[float], bool],
        leave: Callable[[Sequence[str]], None] | None = None,
        grace_seconds: float = 60.0,
    ) -> None:
        self._paths = paths
        self._backend = backend
        self._settings = settings
        self._name = name
        self._parallelism = parallelism
        self._write_task = write_task
        self._read_result = read_result
        self._wait = wait
        self._leave = leave
        self._grace_seconds = grace_seconds
        self._busy_until = 0.0
        self._busy_seconds = LEAST_BUSY_SECONDS
        self._wanted: dict[int, Work] = {}
        self._done: dict[int, Gathered] = {}

    def run(
        self,
        work: Sequence[Work],
        *,
        enough: int | None = None,
        on_result: Callable[[Result], None] = lambda result: None,
    ) -> dict[int, Gathered]:
        """Evaluate ``work`` and return each candidate's result by its number.

        With ``enough`` of them the rest is not waited for beyond :class:`Patience`. Its tasks
        go on; a later call with these candidates among its ``work`` goes on with them.
        Raises :class:`Interrupted` when asked to stop, after workers that do not outlive the
        coordinator have saved their state, and :class:`~llmatic_hpc.errors.ClusterError`
        when nothing can be submitted.
        """
        for folder in (self._paths.results, self._paths.tasks, self._paths.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        wanted = self._wanted = {item.candidate: item for item in work}
        done = self._done = {}
        enough = len(work) if enough is None else enough
        patience = Patience(enough, began=time.time())
        self._journal = journal = Journal(self._paths.journal)
        followed = self._adopt()
        inherited = set(followed)
        covered = {i[0] for items in followed.values() for i in items if journal.state.is_latest(i)}
        untouched = wanted.keys() - covered
        queue: list[Planned] = []
        is_first = True
        while True:
            # In this order: a result written before its task ended is seen in the same turn.
            alive = self._backend.alive(self._folder(name) for name in followed)
            fresh = self._scan()
            done.update(fresh)
            ended = [name for name in followed if self._folder(name) not in alive]
            again, lost = self._settle(ended, followed, inherited)
            done.update(lost)
            for gathered in (*fresh.values(), *lost.values()):
                patience.arrived(gathered.result.finished or time.time())
                on_result(gathered.result)
            queue += self._plan(wanted[c] for c in sorted(again | untouched))
            inherited, untouched = set(), set()
            late = not queue and patience.is_over(self._submitted, time.time())
            if late or len(done) == len(wanted):
                self._let_go(followed, wanted.keys() - done.keys())
                return done
            started = self._submit(queue, len(followed))
            followed |= started
            if self._leave is not None and followed and not queue and (started or is_first):
                self._leave([self._backend.job(self._folder(name)) for name in followed])
            is_first = False
            if self._wait(self._backend.pause_seconds):
                if not self._backend.outlives:
                    self._stop(list(followed))
                raise Interrupted("the run was asked to stop; every finished result is saved")

    @property
    def lost(self) -> dict[str, float]:
        """Seconds that tasks of this generation ran in vain, by kind (see :mod:`.journal`)."""
        return dict(self._journal.state.lost[self._name])

    def _folder(self, name: str) -> Path:
        return self._paths.tasks / name

    def _adopt(self) -> dict[str, list[Item]]:
        """Follow what was started before and is not settled; return the items by task."""
        state = self._journal.state
        tokens = state.tokens_of(self._wanted)
        # A submission is adopted as a whole, and only what is wanted of it is followed.
        known = {name: entry for name, entry in state.tasks.items() if entry.token in tokens}
        self._backend.adopt(
            [
                Started(self._folder(name), entry.token, entry.position, entry.job)
                for name, entry in known.items()
            ]
        )
        for node, when in state.blamed.values():
            self._backend.blame(node, when)
        return {
            name: entry.items
            for name, entry in known.items()
            if name not in state.ended and any(item[0] in self._wanted for item in entry.items)
        }

    @property
    def _submitted(self) -> float:
        """Time of the first of this generation's own submissions; infinity where there is none."""
        entries = self._journal.state.tasks.values()
        own = (entry.time for entry in entries if entry.token.startswith(f"{self._name}-"))
        return min(own, default=math.inf)

    # --- results ------------------------------------------------------------------------------

    def _scan(self) -> dict[int, Gathered]:
        """Return new results: for each candidate the valid one of the lowest attempt."""
        attempts: dict[int, list[int]] = {}
        for path in self._paths.results.glob("*.*.json"):
            name, number, _ = path.name.split(".", 2)
            if name.isdigit() and number.isdigit():
                attempts.setdefault(int(name), []).append(int(number))
        found: dict[int, Gathered] = {}
        for candidate in sorted(attempts.keys() & self._wanted.keys() - self._done.keys()):
            for attempt in sorted(attempts[candidate]):
                path = self._paths.result(candidate, attempt)
                result = self._read_result(path, self._wanted[candidate])
                if result is None:
                    log.warning("%s is no valid result of this candidate: ignored", path.name)
                    path.replace(path.with_suffix(".ignored"))
                elif result.outcome.status != "infrastructure":
                    found[candidate] = self._gathered(result, (candidate, attempt))
                    break
        return found

    def _gathered(self, result: Result, item: Item) -> Gathered:
        state = self._journal.state
        since = next((e.time for e in state.tasks.values() if item in e.items), result.started)
        return Gathered(result, state.attempts[item[0]], max(0.0, result.started - since))

    # --- what ended without ---------------------------------------------------------------------

    def _settle(
        self, ended: Sequence[str], followed: dict[str, list[Item]], inherited: set[str]
    ) -> tuple[set[int], dict[int, Gathered]]:
        """Forget tasks that ended; return the candidates to try again and those given up."""
        again: set[int] = set()
        given_up: dict[int, Gathered] = {}
        for name in ended:
            folder, items = self._folder(name), followed.pop(name)
            missing = [item for item in items if self._is_missing(item)]
            handed_back = exit_code(folder) == HANDED_BACK
            ending = self._backend.ending(folder) if missing and not handed_back else Ending()
            # What died with the coordinator that started it is no fault of the machine's.
            free = handed_back or (name in inherited and not self._backend.outlives)
            # A task takes its candidates in order: a limit was met by those that it was at.
            at_once = self._settings.workers_per_task
            suspects = missing[:at_once] if ending.cause in OWN_FAULT else []
            if missing and not handed_back:
                self._keep_log(folder, ending)
                used = sum(
                    self._done[c].result.outcome.train_seconds for c, _ in items if c in self._done
                )
                vain = max(0.0, ending.seconds - used)
                self._journal.lost(name, replace(ending, seconds=vain), by=self._name)
            for item in missing:
                alone = item in suspects and len(items) == 1
                outcome = self._verdict(name, item, ending, item in suspects, alone, free)
                if outcome is None:
                    again.add(item[0])
                else:
                    given_up[item[0]] = self._given_up(item, outcome)
            if charge := self._journal.state.blamed.get(name):
                self._backend.blame(*charge)
            if missing and not any(item[0] in given_up for item in missing):
                self._journal.ended(name)
            shutil.rmtree(folder, ignore_errors=True)
        return again, given_up

    def _is_missing(self, item: Item) -> bool:
        """Return whether a candidate that is wanted has no result, and no later attempt."""
        candidate = item[0]
        return (
            candidate in self._wanted
            and candidate not in self._done
            and self._journal.state.is_latest(item)
        )

    def _verdict(
        self, task: str, item: Item, ending: Ending, suspect: bool, alone: bool, free: bool
    ) -> Outcome | None:
        """Decide about a candidate whose attempt gave no result; None: try again."""
        state, cause = self._journal.state, ending.cause
        if suspect:
            known = any(c == cause and a != item[1] for c, a in state.suspected[item[0]])
            self._journal.suspected(item, cause)
            log.warning("candidate %d, attempt %d: %s", item[0], item[1], cause)
            if known or (alone and cause == OUT_OF_MEMORY):
                more = ", with twice the time, too" if cause == TIME_OUT else ", alone in its task"
                return Outcome(OWN_FAULT[cause], f"its task met the limit: {cause}{more}")
            return None
        reason, node = self._failure_reason(item)
        if not reason and (free or cause in FREE):
            return None
        reason = reason or f"its task ended without a result{f' ({cause})' if cause else ''}"
        node = node or (ending.node if cause != CANCELLED else "")
        self._journal.failed(item, reason, task=task, node=node)
        log.warning("candidate %d, attempt %d: %s", item[0], item[1], reason)
        if (fault := accelerators.fault(reason)) in accelerators.LOST:
            before = any(
                c.startswith(LOST_DEVICE) and a != item[1] for c, a in state.suspected[item[0]]
            )
            self._journal.suspected(item, LOST_DEVICE + node)
            if before:
                status = "invalid" if fault == accelerators.KERNEL else "infrastructure"
                return Outcome(status, f"twice, the second time alone: {reason}")
        failures = state.failures(item[0])
        if failures < self._settings.max_attempts:
            return None
        log.error("candidate %d: given up after %d failures", item[0], failures)
        return Outcome("infrastructure", f"{failures} attempts failed, the last one: {reason}")

    def _failure_reason(self, item: Item) -> tuple[str, str]:
        """Return why a worker could not evaluate the candidate, and its host; empty if unsaid."""
        path = self._paths.result(*item)
        result = self._read_result(path, self._wanted[item[0]]) if path.exists() else None
        return ("", "") if result is None else (result.outcome.failure, result.node)

    def _given_up(self, item: Item, outcome: Outcome) -> Gathered:
        result = Result("", *item, self._wanted[item[0]].source_sha256, outcome)
        return Gathered(result, self._journal.state.attempts[item[0]], 0.0)

    # --- submitting ---------------------------------------------------------------------------

    def _plan(self, work: Iterable[Work]) -> list[Planned]:
        """Plan tasks for candidates that have none: packed, but each suspect alone."""
        state, per_task = self._journal.state, self._settings.candidates_per_task
        packed, planned = [], []
        for item in work:
            if causes := state.suspected.get(item.candidate):
                timed_out = any(cause == TIME_OUT for cause, _ in causes)
                lost = {c.removeprefix(LOST_DEVICE) for c, _ in causes if c.startswith(LOST_DEVICE)}
                planned.append(
                    Planned([self._next(item)], 2 if timed_out else 1, tuple(sorted(lost - {""})))
                )
            else:
                packed.append(item)
        tasks = task_count(len(packed), parallelism=self._parallelism, per_task=per_task)
        packs = pack(packed, tasks, most=per_task)
        return [
            *(Planned([self._next(item) for item in items]) for items in packs),
            *planned,
        ]

    def _next(self, work: Work) -> Item:
        return work.candidate, self._journal.state.attempts[work.candidate] + 1

    def _submit(self, queue: list[Planned], alive: int) -> dict[str, list[Item]]:
        """Submit from the queue what there is room for; returns the items by task."""
        started: dict[str, list[Item]] = {}
        while queue and time.monotonic() >= self._busy_until:
            room = self._backend.room(alive + len(started))
            first = queue[0]
            count = next(
                (
                    n
                    for n, planned in enumerate(queue)
                    if (planned.time_factor, planned.avoid) != (first.time_factor, first.avoid)
                ),
                len(queue),
            )
            batch = queue[: min(room, count)]
            tasks = [[i for i in planned.items if i[0] not in self._done] for planned in batch]
            if not batch:
                break
            try:
                started |= self._start([t for t in tasks if t], first)
            except ClusterBusyError as error:
                log.warning("%s; again in %.0f s", error, self._busy_seconds)
                self._busy_until = time.monotonic() + self._busy_seconds
                self._busy_seconds = min(2 * self._busy_seconds, MOST_BUSY_SECONDS)
                break
            self._busy_seconds = LEAST_BUSY_SECONDS
            del queue[: len(batch)]
            if self._backend.pause_seconds == 0:
                break  # they have ended already: look at their results first
        return started

    def _start(self, tasks: Sequence[list[Item]], how: Planned) -> dict[str, list[Item]]:
        if not tasks:
            return {}
        number = self._journal.state.submissions
        token = f"{self._name}-{number}"
        started = {f"s{number:04d}-t{n:05d}": items for n, items in enumerate(tasks)}
        for name, items in started.items():
            folder = self._folder(name)
            # A folder without a line in the journal is what a kill in between left behind.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            self._write_task(folder, [(self._wanted[c], attempt) for c, attempt in items])
        self._journal.submitting(token, started)
        try:
            folders = [self._folder(name) for name in started]
            jobs = self._backend.submit(
                folders, token, time_factor=how.time_factor, avoid=how.avoid
            )
        except ClusterBusyError:
            self._journal.refused(token)
            raise
        self._journal.submitted(dict(zip(started, jobs, strict=True)))
        return started

    # --- leaving ------------------------------------------------------------------------------

    def _let_go(self, followed: Mapping[str, list[Item]], out: Collection[int]) -> None:
        """End the tasks that have nothing more to do; the others go on for those still out."""
        if out:
            named = ", ".join(map(str, sorted(out)))
            log.info("enough results are in; going on without candidates %s", named)
        busy = {name for name, items in followed.items() if any(i[0] in out for i in items)}
        self._stop([n for n in followed if n not in busy], leaving_seconds=LEAVING_SECONDS)

    def _stop(self, names: Sequence[str], *, leaving_seconds: float = 0.0) -> None:
        """Wait a bounded time for tasks to end by themselves, then as long after asking them to."""
        folders = [self._folder(name) for name in names]
        if not self._gone(folders, leaving_seconds):
            self._backend.stop(folders)
            self._gone(folders, self._grace_seconds)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _gone(self, folders: Sequence[Path], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._backend.alive(folders):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)  # other processes: nothing to wait on
        return True

    def _keep_log(self, folder: Path, ending: Ending) -> None:
        """Keep the end of a failed worker's output, before its folder goes."""
        try:
            text = ending.output.read_bytes()[-LOG_TAIL_BYTES:].strip() if ending.output else b""
        except OSError:
            return
        if text:
            self._paths.logs.mkdir(exist_ok=True)
            kept = self._paths.logs / f"{self._name}-{folder.name}.log"
            kept.write_bytes(text + b"\n")
