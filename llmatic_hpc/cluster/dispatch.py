"""Submit, adopt, gather, retry: one generation's candidates until each has its result.

What counts is on disk: the journal says what was started, result files say what is done.
So the same call continues after any crash: it reads the results that are there, follows the
tasks that still run, and starts only what neither covers.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..config import ClusterSettings
from ..errors import Interrupted
from ..paths import RunPaths
from ..records import Outcome, Result
from .base import HANDED_BACK, Backend, Gathered, Work
from .journal import Item, Journal
from .packing import pack, task_count

log = logging.getLogger(__name__)

LOG_TAIL_BYTES = 20_000


class Dispatcher:
    """Evaluates one generation's candidates on a backend.

    ``label`` begins the names of logs that are kept (of workers that failed).
    ``write_task(folder, items)`` writes what a worker needs into a new task folder.
    ``read_result(path, work)`` returns the valid result in ``path``, or None.
    ``wait(seconds)`` pauses and returns True when the run was asked to stop.
    """

    def __init__(
        self,
        paths: RunPaths,
        backend: Backend,
        settings: ClusterSettings,
        *,
        label: str,
        parallelism: int,
        write_task: Callable[[Path, Sequence[tuple[Work, int]]], None],
        read_result: Callable[[Path, Work], Result | None],
        wait: Callable[[float], bool],
        grace_seconds: float = 60.0,
    ) -> None:
        self._paths = paths
        self._backend = backend
        self._settings = settings
        self._label = label
        self._parallelism = parallelism
        self._write_task = write_task
        self._read_result = read_result
        self._wait = wait
        self._grace_seconds = grace_seconds

    def run(
        self,
        work: Sequence[Work],
        *,
        on_result: Callable[[Result], None] = lambda result: None,
        on_alive: Callable[[int], None] = lambda count: None,
    ) -> dict[int, Gathered]:
        """The result of every candidate, by its index in the batch.

        Raises :class:`Interrupted` when asked to stop, after the workers have saved their
        state, and :class:`~llmatic_hpc.errors.ClusterError` when nothing can be started.
        """
        for folder in (self._paths.results, self._paths.tasks, self._paths.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        by_index = {item.index: item for item in work}
        journal = Journal(self._paths.journal)
        done: dict[int, Gathered] = {}
        followed = dict(journal.state.tasks)
        # What a coordinator before this one started and what died with it is no fault of the
        # machine's, so it costs no retry.
        inherited = set(followed)
        queue: list[list[Item]] = []
        untouched = by_index.keys() - journal.state.attempts.keys()
        while True:
            # In this order: a result written before its task ended is seen in the same turn.
            alive = self._backend.alive(self._folder(name) for name in followed)
            fresh = self._scan(by_index, done, journal)
            done.update(fresh)
            ended = [name for name in followed if self._folder(name) not in alive]
            again, lost = self._settle(ended, followed, inherited, by_index, done, journal)
            done.update(lost)
            for gathered in (*fresh.values(), *lost.values()):
                on_result(gathered.result)
            queue += self._plan([by_index[i] for i in sorted(again | untouched)], journal)
            inherited, untouched = set(), set()
            if len(done) == len(by_index):
                self._stop(list(followed))  # on their way out, or doing what is done already
                return done
            if room := self._backend.room(len(followed)):
                batch, queue = queue[:room], queue[room:]
                followed |= self._start(
                    [[i for i in items if i[0] not in done] for items in batch], by_index, journal
                )
            on_alive(len(followed))
            if self._wait(self._backend.pause_seconds):
                self._stop(list(followed))
                raise Interrupted("the run was asked to stop; every finished result is saved")

    def _folder(self, name: str) -> Path:
        return self._paths.tasks / name

    def _scan(
        self, by_index: dict[int, Work], done: dict[int, Gathered], journal: Journal
    ) -> dict[int, Gathered]:
        """New results: for each candidate the valid one of the lowest attempt."""
        attempts: dict[int, list[int]] = {}
        for path in self._paths.results.glob("*.*.json"):
            name, number, _ = path.name.split(".", 2)
            if name.isdigit() and number.isdigit():
                attempts.setdefault(int(name), []).append(int(number))
        found: dict[int, Gathered] = {}
        for index in sorted(attempts.keys() & by_index.keys() - done.keys()):
            for attempt in sorted(attempts[index]):
                path = self._paths.result(index, attempt)
                result = self._read_result(path, by_index[index])
                if result is None:
                    log.warning("%s is no valid result of this candidate: ignored", path.name)
                    path.replace(path.with_suffix(".ignored"))
                elif result.outcome.status != "infrastructure":
                    found[index] = self._gathered(result, (index, attempt), journal)
                    break
        return found

    def _gathered(self, result: Result, item: Item, journal: Journal) -> Gathered:
        state = journal.state
        since = next(
            (state.submitted[name] for name, items in state.tasks.items() if item in items),
            result.started,
        )
        return Gathered(result, state.attempts[item[0]], max(0.0, result.started - since))

    def _settle(
        self,
        ended: Sequence[str],
        followed: dict[str, list[Item]],
        inherited: set[str],
        by_index: dict[int, Work],
        done: dict[int, Gathered],
        journal: Journal,
    ) -> tuple[set[int], dict[int, Gathered]]:
        """Forget tasks that ended: which candidates to try again, which to give up."""
        again: set[int] = set()
        given_up: dict[int, Gathered] = {}
        for name in ended:
            folder, items = self._folder(name), followed.pop(name)
            missing = [
                item
                for item in items
                if item[0] in by_index and item[0] not in done and journal.state.latest(item)
            ]
            blameless = name in inherited or (folder / HANDED_BACK).exists()
            if missing and not blameless:
                self._keep_log(folder)
            for item in missing:
                work = by_index[item[0]]
                reason = self._failure_reason(item, work)
                if reason or not blameless:
                    reason = reason or "its worker ended without a result"
                    journal.failed(item, reason)
                    log.warning("candidate %d, attempt %d: %s", work.candidate, item[1], reason)
                if journal.state.failures(item[0]) < self._settings.max_attempts:
                    again.add(item[0])
                else:
                    given_up[item[0]] = self._give_up(item, work, reason, journal)
            shutil.rmtree(folder, ignore_errors=True)
        return again, given_up

    def _failure_reason(self, item: Item, work: Work) -> str:
        """Why the worker itself could not evaluate the candidate; empty if it does not say."""
        path = self._paths.result(*item)
        result = self._read_result(path, work) if path.exists() else None
        return result.outcome.failure if result is not None else ""

    def _give_up(self, item: Item, work: Work, reason: str, journal: Journal) -> Gathered:
        failure = f"{journal.state.failures(item[0])} attempts failed, the last one: {reason}"
        log.error("candidate %d: %s; see %s", work.candidate, failure, self._paths.logs)
        outcome = Outcome("infrastructure", failure)
        result = Result("", work.candidate, item[1], work.source_sha256, outcome)
        return Gathered(result, journal.state.attempts[item[0]], 0.0)

    def _plan(self, work: Sequence[Work], journal: Journal) -> list[list[Item]]:
        tasks = task_count(
            len(work), parallelism=self._parallelism, per_task=self._settings.candidates_per_task
        )
        return [
            [(item.index, journal.state.attempts[item.index] + 1) for item in packed]
            for packed in pack(work, tasks)
        ]

    def _start(
        self, batch: Sequence[list[Item]], by_index: dict[int, Work], journal: Journal
    ) -> dict[str, list[Item]]:
        """Submit a task for each list of items; returns the items by the task's name."""
        started: dict[str, list[Item]] = {}
        for items in filter(None, batch):
            name = f"t{len(journal.state.tasks) + len(started):05d}"
            folder = self._folder(name)
            # A folder without a line in the journal is what a kill in between left behind.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            self._write_task(folder, [(by_index[index], attempt) for index, attempt in items])
            started[name] = items
        if started:
            journal.submitting(started)
            jobs = self._backend.submit([self._folder(name) for name in started])
            journal.submitted(dict(zip(started, jobs, strict=True)))
        return started

    def _stop(self, names: Sequence[str]) -> None:
        """Let the workers save their state, for a bounded time."""
        folders = [self._folder(name) for name in names]
        self._backend.stop(folders)
        deadline = time.monotonic() + self._grace_seconds
        while self._backend.alive(folders) and time.monotonic() < deadline:
            time.sleep(0.05)  # other processes: nothing to wait on
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _keep_log(self, folder: Path) -> None:
        """The end of a failed worker's output, before its folder goes."""
        for path in folder.glob("*_log.out"):
            if text := path.read_bytes()[-LOG_TAIL_BYTES:].strip():
                self._paths.logs.mkdir(exist_ok=True)
                kept = self._paths.logs / f"{self._label}-{folder.name}.log"
                kept.write_bytes(text + b"\n")
