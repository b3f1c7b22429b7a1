"""Run contained children for the judge: start, watch, bound, end, and say whose fault it was.

:class:`Container` keeps one warm parent (:mod:`.warm`) and hands it jobs; a reply comes back
on a pipe that only the judge reads, with a bound on its size and on its time. The judge is
the only timekeeper. Outcomes by cause:

=========================================  ==================================================
the candidate raises, exits, crashes       ``invalid``, with one line
its reply is not what ours looks like      ``invalid``, ``reply: ...``
the wall clock or the CPU time runs out    ``too_slow``, with the limit
memory runs out, or the kernel kills it    ``too_large``
a loss or an output is not finite          ``diverged``
the judge asked for a checkpoint           ``checkpointed``
no child, or it ends before its candidate  ``infrastructure``: never blamed on a candidate
begins, or the warm parent dies
=========================================  ==================================================

This is the one place on the judge's side that tries again for the machine's fault:
``infrastructure`` is a reply only after :data:`TRIES`, the later ones alone, with a new warm
parent where the former one died; a device lost in the middle of a training is for another machine
to try. A training that ran out of memory beside others, on the device
or by the kernel's choice whom to kill, is tried once more alone.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import selectors
import shutil
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..config import ContainmentSettings, accelerators
from ..errors import ContainmentError
from . import confine, wire
from .warm_parent import KILL_SECONDS, WarmParent, shared_memory
from .wire import READY, Job, Reply, reply_of

__all__ = ["Container", "Job", "Reply"]

log = logging.getLogger(__name__)

TRIES = 3
"""Starts of a job before the machine's fault is the answer."""
GRACE_SECONDS = 20.0
"""Longest time that a child may take to write the checkpoint it is asked for."""


@dataclass
class _Running:
    job: Job
    pipe: int
    scratch: Path
    started: float
    deadline: float
    tries: int
    """Number of this try; all but the first have the machine to themselves."""
    device: str
    data: bytearray = field(default_factory=bytearray)
    ended: Reply | None = None
    """The reply, where we are killing it."""
    asked: bool = False


class Container(contextlib.AbstractContextManager["Container"]):
    """Up to ``slots`` contained children at a time. A context manager.

    ``arrays`` (see :func:`~.data.for_training`) is what children may read; it is copied to
    sealed shared memory once. ``threads`` is the most that a child may use. ``kind``: what
    most jobs are; children of a container for ``measure`` start faster and see no GPU. The
    warm parent starts to load when the container is made; the first job waits for it.
    ``devices``: names of accelerators, of which each child sees the one that has most room.
    ``without`` switches off layers of :data:`.confine.LAYERS`, to test the others.

    Raises :class:`~llmatic_hpc.errors.ContainmentError` where a layer is missing that
    ``containment.require`` names.
    """

    def __init__(
        self,
        settings: ContainmentSettings,
        *,
        arrays: Mapping[str, NDArray[Any]] | None = None,
        slots: int = 1,
        threads: int = 1,
        kind: str = "train",
        devices: Sequence[str] = (),
        without: frozenset[str] = frozenset(),
    ) -> None:
        self._layers = sorted(layers(settings) - without)
        self._settings, self._slots, self._threads = settings, slots, threads
        self._kind, self._devices = kind, devices
        self._shared: list[tuple[dict[str, Any], int]] = []
        self._scratch = Path(tempfile.mkdtemp(prefix="llmatic-"))
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ, "wake")
        self._stopping = False
        self._running: dict[int, _Running] = {}
        self._next = 0
        self._warm: WarmParent | None = None
        try:
            if arrays:
                self.share(arrays)
            self._warm = WarmParent(kind, threads, self._scratch)
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every child and the warm parent, and remove temporary folders."""
        self._close_parent()
        for number in list(self._running):
            self._discard(number)
        self._selector.close()
        for _, descriptor in self._shared:
            os.close(descriptor)
        self._shared.clear()
        for end in (self._woken, self._wake):
            with contextlib.suppress(OSError):
                os.close(end)
        self._woken = self._wake = -1
        shutil.rmtree(self._scratch, ignore_errors=True)

    def share(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Let children read ``arrays``; before the first job."""
        for name, array in arrays.items():
            entry = {"name": name, "shape": array.shape, "dtype": array.dtype.str}
            self._shared.append((entry, shared_memory(name, array)))

    def stop(self) -> None:
        """Ask every child for a checkpoint and start none. Safe in a signal handler."""
        self._stopping = True
        if self._wake >= 0:
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake, b"\0")

    @property
    def warm_pid(self) -> int:
        """Process id of the warm parent, for tests and diagnosis; 0 while there is none."""
        return self._warm.pid if self._warm is not None else 0

    def run(self, job: Job) -> Reply:
        """Run one job. Raises as :meth:`run_many`."""
        return next(self.run_many([job]))[1]

    def run_many(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Reply]]:
        """Run jobs; yield replies in the order in which they come.

        ``jobs`` is asked for one more while others run, so that making them may take its time.

        Raises :class:`~llmatic_hpc.errors.ContainmentError` where no warm parent can be had.
        Leaving the iteration early ends the children that still run.
        """
        if self._running:
            raise RuntimeError("this container is already running jobs")
        fresh, again = iter(jobs), deque[tuple[Job, int]]()
        try:
            waiting = _one_of(fresh, again)
            while waiting or self._running:
                ended: list[tuple[Job, int, Reply]] = []
                while waiting and self._room(waiting[1]):
                    job, tries = waiting
                    if self._stopping:
                        yield job, Reply("checkpointed")
                    elif (failed := self._start(job, tries)) is not None:
                        ended.append((job, tries, failed))
                    waiting = _one_of(fresh, again)
                for number, reply in self._await():
                    running = self._discard(number)
                    ended.append((running.job, running.tries, reply))
                for job, tries, reply in ended:
                    if self._deserves_another(job, tries, reply):
                        again.append((job, tries + 1))
                    else:
                        yield job, reply
                waiting = waiting or _one_of(fresh, again)
        finally:
            for number in list(self._running):
                self._tell({"op": "kill", "job": number})
                self._discard(number)

    def _room(self, tries: int) -> bool:
        """Return whether another child may start; what is tried again has the machine to itself."""
        if tries > 1 or any(running.tries > 1 for running in self._running.values()):
            return not self._running
        return len(self._running) < self._slots

    def _deserves_another(self, job: Job, tries: int, reply: Reply) -> bool:
        """Return whether to try again: something else than the candidate may be at fault."""
        crowded = tries == 1 and self._slots > 1 and job.kind == "train"
        if accelerators.fault(reply.failure) in accelerators.LOST:
            return crowded and reply.status == "infrastructure"  # by a sibling, under MPS
        faulty = reply.status == "infrastructure" and tries < TRIES
        return faulty or (reply.status == "too_large" and crowded)

    # --- one job ----------------------------------------------------------------------------

    def _start(self, job: Job, tries: int) -> Reply | None:
        """Hand a job to the warm parent; return a reply where there is no disk to run it on."""
        self._ready_parent()
        number = self._next = self._next + 1
        scratch = job.scratch or self._scratch / str(number)
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            reader, writer = os.pipe()
        except OSError as error:
            return Reply("infrastructure", wire.one_line(f"cannot make {scratch}: {error}"))
        os.set_blocking(reader, False)
        now = time.monotonic()
        busy = [running.device for running in self._running.values()]
        turn = (tries - 1) % max(len(self._devices), 1)  # another one, when it is tried again
        devices = [*self._devices[turn:], *self._devices[:turn]]
        device = min(devices, key=busy.count, default="")
        sharing = -(-self._slots // max(len(self._devices), 1))
        self._running[number] = _Running(
            job, reader, scratch, now, now + job.seconds, tries, device
        )
        self._selector.register(reader, selectors.EVENT_READ, number)
        settings = self._settings
        message = {
            "op": "run",
            "job": number,
            "kind": job.kind,
            "source": job.source,
            "scratch": str(scratch.resolve()),
            "layers": self._layers,
            "threads": min(job.threads, self._threads),
            "environment": accelerators.only(device) if device else {},
            "sharing": sharing if tries == 1 else 1,
            "memory_bytes": settings.memory_bytes,
            "resident_bytes": settings.memory_bytes if job.kind == "train" else 0,
            "file_bytes": settings.file_bytes,
            # Behind the wall clock: for a judge that is no longer there to watch it.
            "cpu_seconds": math.ceil(job.seconds * max(self._threads, 1)) + 60,
            "parameters": dict(job.parameters),
        }
        try:
            self._tell(message, writer)
        finally:
            os.close(writer)
        return None

    def _await(self) -> list[tuple[int, Reply]]:
        """Wait for something to happen, and see to it; return what has ended, with replies."""
        warm = self._warm
        if warm is None or not self._running:
            return self._lost("the process that starts candidates ended") if self._running else []
        self._enforce()
        timeout = min(r.deadline for r in self._running.values()) - time.monotonic()
        events = self._selector.select(max(timeout, 0.0))
        ended: list[tuple[int, Reply]] = []
        gone = False
        for key, _ in events:
            if key.data == "wake":
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
            elif key.data == "warm":
                try:
                    message, _ = wire.receive(warm.sock)
                except (EOFError, OSError):
                    gone = True
                else:
                    ended += self._hear(message)
            elif key.data in self._running:
                self._read(key.data)
        if gone:
            done = {number for number, _ in ended}
            ended += [e for e in self._lost(warm.epitaph()) if e[0] not in done]
        return ended

    def _enforce(self) -> None:
        """Enforce deadlines and requests to stop."""
        now = time.monotonic()
        for number, running in list(self._running.items()):
            if self._stopping and not running.asked and running.ended is None:
                running.asked = True
                running.deadline = min(running.deadline, now + GRACE_SECONDS)
                self._tell({"op": "stop", "job": number})
            limit = running.job.limit
            if now < running.deadline:
                continue
            if running.ended is not None:
                if self._warm is not None:  # it did not confirm the kill: it hangs
                    self._warm.kill()
            elif running.asked:
                self._end(number, Reply("checkpointed"))
            elif wire.introduced(running.data)[1].startswith(READY):
                self._end(number, Reply("too_slow", f"it ran out of time ({limit})"))
            else:
                failure = f"its candidate had not begun when time was up ({limit})"
                self._end(number, Reply("infrastructure", failure))

    def _end(self, number: int, reply: Reply) -> None:
        running = self._running[number]
        running.ended = reply
        running.deadline = time.monotonic() + KILL_SECONDS
        self._tell({"op": "kill", "job": number})

    def _read(self, number: int) -> None:
        """Take what is in the pipe of a job, up to the bound."""
        running = self._running[number]
        while len(running.data) <= wire.max_reply(running.job.payload_bytes):
            try:
                part = os.read(running.pipe, 1 << 16)
            except BlockingIOError:
                return
            if not part:
                break
            running.data += part
        else:
            if running.ended is None:
                self._end(number, Reply("invalid", "reply: longer than it may be"))
        self._unregister(running.pipe)

    def _hear(self, message: dict[str, Any]) -> list[tuple[int, Reply]]:
        number = message["job"]
        if number not in self._running:  # killed when its iteration was left
            return []
        if message["op"] == "failed":
            return [(number, Reply("infrastructure", message["failure"]))]
        self._read(number)  # all of it is there: nobody is left who could write
        running = self._running[number]
        reply = running.ended or reply_of(running.job, bytes(running.data), message["code"])
        if message["memory"]:
            limit = f"containment.memory_bytes = {self._settings.memory_bytes}"
            reply = Reply("too_large", f"it held more memory than it may ({limit})")
        if running.asked and reply.status != running.job.success and message["code"] != 0:
            reply = Reply("checkpointed")  # killed on the way out; its candidate is innocent
        elif reply.status == "checkpointed" and not running.asked:
            reply = Reply("invalid", "reply: a checkpoint nobody asked for")
        device, _ = wire.introduced(running.data)
        return [(number, replace(reply, seconds=time.monotonic() - running.started, device=device))]

    def _lost(self, why: str) -> list[tuple[int, Reply]]:
        """Return replies for everything that ran, since the warm parent is gone."""
        self._close_parent()
        lost = Reply("infrastructure", wire.one_line(why))
        return [
            (n, r.ended or (Reply("checkpointed") if r.asked else lost))
            for n, r in self._running.items()
        ]

    def _discard(self, number: int) -> _Running:
        running = self._running.pop(number)
        self._unregister(running.pipe)
        os.close(running.pipe)
        if running.job.scratch is None:
            shutil.rmtree(running.scratch, ignore_errors=True)
        return running

    # --- the warm parent ----------------------------------------------------------------------

    def _ready_parent(self) -> None:
        if self._warm is None:
            self._warm = WarmParent(self._kind, self._threads, self._scratch)
        if self._warm.await_ready():
            self._selector.register(self._warm.sock, selectors.EVENT_READ, "warm")
            if self._shared:
                entries, descriptors = zip(*self._shared, strict=True)
                self._tell({"op": "data", "arrays": entries}, *descriptors)

    def _close_parent(self) -> None:
        if self._warm is not None:
            self._unregister(self._warm.sock)
            self._warm.close()
            self._warm = None

    def _unregister(self, source: int | socket.socket) -> None:
        """Wait no longer for a source; one whose end was read is not waited for already."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(source)

    def _tell(self, message: Mapping[str, Any], *descriptors: int) -> None:
        """Tell the warm parent; where it is gone, the next wait is going to notice."""
        if self._warm is not None:
            with contextlib.suppress(OSError):
                wire.send(self._warm.sock, message, descriptors)


def _one_of(fresh: Iterator[Job], again: deque[tuple[Job, int]]) -> tuple[Job, int] | None:
    """Return the next job with the number of its try; what is tried again comes last."""
    job = next(fresh, None)
    return (job, 1) if job is not None else again.popleft() if again else None


def layers(settings: ContainmentSettings) -> frozenset[str]:
    """Return the kernel's layers that this machine has; log what it lacks, once.

    Raises :class:`~llmatic_hpc.errors.ContainmentError` where one is required and missing.
    """
    found = confine.available()
    if missing := [name for name in settings.require if name not in found]:
        raise ContainmentError(
            f"this machine ({os.uname().nodename}, Linux {os.uname().release}) has no "
            f"{' and no '.join(missing)} to contain candidates with, which containment.require "
            "asks for; 'llmatic doctor' says more. Run on a machine that has it, or take it out "
            "of containment.require"
        )
    _tell_missing(tuple(name for name in confine.LAYERS if name not in found))
    return found


@functools.cache
def _tell_missing(names: tuple[str, ...]) -> None:
    for name in names:
        log.warning("candidates are contained without %s, which this machine lacks", name)
