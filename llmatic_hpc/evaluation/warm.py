"""Run the warm parent: torch imported once, a forked and confined child per job.

``python -m llmatic_hpc.evaluation.warm DESCRIPTOR KIND SCRATCH`` serves one judge over a
socket. ``KIND`` is what its children mostly do, ``measure`` or ``train``; the folder
``SCRATCH`` goes with it, even where the judge was killed. It never executes what a model
wrote, never touches CUDA, and never runs an operation on more than one thread: neither a
CUDA context nor a pool of OpenMP threads survives a fork.

Messages in: ``data`` (shared arrays and their descriptors), ``run`` (a job and its reply
pipe), ``stop`` (ask a job for a checkpoint), ``kill``. Messages out: ``ready``, ``failed`` (no
child could be forked) and, for every ``run`` that did not fail, exactly one ``exited``, sent
when nothing of the child is left: neither it, nor its session, nor what escaped from it.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sandbox import confine, hugepages, wire

SWEEP_SECONDS = 1.0
"""Longest wait, at the end of a job, for what escaped from it to be dead."""
_SPARE_PROCESSES = 256
_GATHER_AFTER = 8
"""Gathering its pages takes this process as long as some dozen forks save."""
_COUNT_SECONDS = 10.0
_WATCH_SECONDS = 0.25

Arrays = dict[str, NDArray[Any]]


class Warm:
    """The loop: fork on request, reap, sweep."""

    def __init__(self, judge: socket.socket) -> None:
        self._judge = judge
        self._arrays: Arrays = {}
        self._jobs: dict[int, int] = {}  # process: job
        self._bounds: dict[int, int] = {}  # process: most resident bytes
        self._gluttons: set[int] = set()  # jobs that were killed for more
        self._ended: list[tuple[int, int, float]] = []  # job, wait status, when
        self._counted = (float("-inf"), 0)
        self._watched = float("-inf")
        self._forks = 0
        self._gathering: Iterator[bool] | None = hugepages.gather()

    def serve(self) -> None:
        """Serve until the judge closes its end; everything forked is dead afterwards."""
        judge = self._judge.fileno()
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        try:
            while True:
                timeout = 0.01 if self._ended else _WATCH_SECONDS if self._bounds else None
                if self._gathering is not None and self._forks >= _GATHER_AFTER:
                    timeout = 0.0  # in between, so that nobody waits for it
                    if next(self._gathering, None) is None:
                        self._gathering = None
                readable, _, _ = select.select([judge, woken], [], [], timeout)
                if woken in readable:
                    with contextlib.suppress(BlockingIOError):
                        os.read(woken, 4096)
                self._watch()
                self._reap()
                if judge in readable:
                    try:
                        message, descriptors = wire.receive(self._judge)
                    except (EOFError, ConnectionError):
                        return
                    self._obey(message, descriptors)
        finally:
            self._kill_all()

    def _obey(self, message: dict[str, Any], descriptors: list[int]) -> None:
        match message["op"]:
            case "data":
                self._arrays = attach(message["arrays"], descriptors)
                gc.collect()
                gc.freeze()
            case "run":
                self._fork(message, descriptors[0])
            case "stop":
                self._signal(message["job"], signal.SIGUSR1)
            case "kill":
                self._signal(message["job"], signal.SIGKILL)

    def _fork(self, message: dict[str, Any], reply: int) -> None:
        parent = os.getpid()
        processes = self._processes() + _SPARE_PROCESSES
        self._forks += 1
        try:
            pid = os.fork()
        except OSError as error:
            wire.send(
                self._judge,
                {"op": "failed", "job": message["job"], "failure": f"fork: {error.strerror}"},
            )
        else:
            if pid == 0:
                from . import child  # which is there since _warm_up

                child.main(message, self._arrays, reply=reply, parent=parent, processes=processes)
            self._jobs[pid] = message["job"]
            if message["resident_bytes"]:
                # What it has from here it holds, too, until it writes there.
                own = confine.resident_bytes(parent)
                self._bounds[pid] = own + message["resident_bytes"]
        finally:
            os.close(reply)

    def _signal(self, job: int, number: int) -> None:
        for pid, running in self._jobs.items():
            if running == job:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _watch(self) -> None:
        """End whoever holds more memory than it may: for children on a GPU, whose address space
        cannot be limited."""
        if time.monotonic() - self._watched < _WATCH_SECONDS:
            return
        self._watched = time.monotonic()
        for pid, most in self._bounds.items():
            family = (pid, *confine.children_of(pid))
            if sum(map(confine.resident_bytes, family)) > most:
                self._gluttons.add(self._jobs[pid])
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Bury the dead, kill who outlived its job, report jobs of which nothing is left.

        A child is a subreaper, so while it lives its descendants stay below it. Whoever is
        our child without being a job was therefore left behind by one that has ended.
        """
        options = os.WEXITED | os.WNOHANG
        while True:
            try:
                # Look first: as long as it is a zombie, its number cannot name another group.
                info = os.waitid(os.P_ALL, 0, options | os.WNOWAIT)
            except ChildProcessError:
                break
            if info is None:
                break
            job = self._jobs.pop(info.si_pid, None)
            self._bounds.pop(info.si_pid, None)
            if job is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(info.si_pid, signal.SIGKILL)
            _, status = os.waitpid(info.si_pid, 0)
            if job is not None:
                self._ended.append((job, status, time.monotonic()))
        if not self._ended:
            return
        left = [pid for pid in confine.children_of(os.getpid()) if pid not in self._jobs]
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        now = time.monotonic()
        waiting = []
        for job, status, when in self._ended:
            if left and now - when < SWEEP_SECONDS:
                waiting.append((job, status, when))
            else:
                code = os.waitstatus_to_exitcode(status)
                reply = {"op": "exited", "job": job, "code": code}
                wire.send(self._judge, reply | {"memory": job in self._gluttons})
                self._gluttons.discard(job)
        self._ended = waiting

    def _kill_all(self) -> None:
        deadline = time.monotonic() + 5 * SWEEP_SECONDS
        while (left := confine.children_of(os.getpid())) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.001)

    def _processes(self) -> int:
        now = time.monotonic()
        if now - self._counted[0] > _COUNT_SECONDS:
            self._counted = (now, confine.tasks_of_user())
        return self._counted[1]


def attach(described: list[dict[str, Any]], descriptors: Sequence[int]) -> Arrays:
    """Map arrays in shared memory copy-on-write: nobody can change another's."""
    arrays: Arrays = {}
    for entry, descriptor in zip(described, descriptors, strict=True):
        shape, kind = tuple(entry["shape"]), np.dtype(entry["dtype"])
        size = int(np.prod(shape)) * kind.itemsize
        if size:
            memory = mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
            arrays[entry["name"]] = np.frombuffer(memory, kind).reshape(shape)
        else:
            arrays[entry["name"]] = np.empty(shape, kind)
        os.close(descriptor)
    return arrays


def _warm_up(kind: str) -> None:
    """Import, and for measuring run once, what every child is going to need.

    Before training nothing may be run: where there is a GPU, a backward step would make a
    CUDA context here. Imported no earlier, for by now signals of the batch system are ignored.
    """
    import torch

    from . import child, measure  # noqa: F401

    torch.set_num_threads(1)
    if kind == "measure":
        measure.warm_up()


def _refuse_threads() -> None:
    """End here where a fork would come from several threads, which a child cannot do without.

    A driver that sees a device starts some, and so does a backward step for every device that is
    visible: each candidate would then fail for it.
    """
    tasks = Path("/proc/self/task")
    names = [(task / "comm").read_text().strip() for task in tasks.iterdir()]
    if len(names) > 1:
        sys.exit(
            f"it has {len(names)} threads ({', '.join(names)}) where only one can be forked: "
            "something that torch loads, such as the driver of an accelerator, started them; hide "
            "it from the CPU's work (docs/gpu.md)"
        )


def main(arguments: Sequence[str]) -> int:
    """Entry point of the process."""
    # The batch system signals every process of a step; only the judge answers for us.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    # Blocked, so that a request for a checkpoint outlasts the start of a child.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    confine.become_subreaper()
    confine.prepare()
    with socket.socket(fileno=int(arguments[0])) as judge:
        judge.set_inheritable(False)
        _warm_up(arguments[1])
        _refuse_threads()
        gc.collect()
        gc.freeze()
        try:
            wire.send(judge, {"op": "ready"})
            Warm(judge).serve()
        except (BrokenPipeError, ConnectionError):
            pass  # the judge is gone, and with it the reason to be
        finally:
            shutil.rmtree(arguments[2], ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
