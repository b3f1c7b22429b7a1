"""Runs of a study on this machine: a process each, so many at once, none of which outlives it.

A child dies with the process of the study, by SIGKILL if need be: a run may be killed at any
instant (invariant 1), and none lives on to hold its lock while the study is started again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path

from ...cluster.placement import available_cores, kind_of
from ...config import Config, accelerators, to_toml
from ...errors import Interrupted, LLMaticError
from ...rundir.files import write_atomically
from ...rundir.paths import RunPaths

PAUSE_SECONDS = 0.2

# Before the interpreter of the run takes its place: its parent's end is its own (Linux).
_BOUND = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
parent, *line = sys.argv[1:]
if os.getppid() != int(parent):
    sys.exit(1)
os.execv(line[0], line)
"""


def bound(line: Sequence[str]) -> list[str]:
    """Return a command that runs ``line`` as a process that dies with this one."""
    return [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *line]


@dataclass(frozen=True)
class Job:
    """A run that is due."""

    paths: RunPaths
    config: Path
    """File of its settings."""


def write_config(path: Path, config: Config) -> None:
    """Put the settings of a run on record, durably. Raises ``LLMaticError``."""
    text = to_toml(config)
    try:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text)
    except OSError as error:
        raise LLMaticError(f"{path}: cannot be written: {error.strerror}") from error


def shared(config: Config, at_once: int) -> Config:
    """Return the settings of a run that has a part of this machine's cores, where they are open.

    Its tasks and their threads, and those of a language model; on GPUs tasks go by the devices
    that a run sees.
    """
    if at_once < 2:
        return config
    cores = max(1, available_cores() // at_once)
    cluster, training, generator = config.cluster, config.training, config.generator
    kind = kind_of(cluster)
    on_cpu = training.device == "cpu" or not accelerators.expected()
    if kind == "local" and on_cpu and not cluster.array_parallelism:
        cluster = replace(cluster, array_parallelism=cores)
    if kind != "slurm" and not training.threads:
        tasks = cluster.array_parallelism if kind == "local" and on_cpu else 1
        training = replace(training, threads=max(1, cores // max(1, tasks)))
    if not generator.threads:
        generator = replace(generator, threads=cores)
    return replace(config, cluster=cluster, training=training, generator=generator)


def devices_of(slot: int, at_once: int, devices: Sequence[str]) -> tuple[str, ...]:
    """Return the devices of a run in one of ``at_once`` places; runs share where there are few."""
    if len(devices) >= at_once:
        return tuple(devices[slot::at_once])
    return (devices[slot % len(devices)],) if devices else ()


@dataclass
class Runner:
    """Runs jobs, and tells of each when it starts and how it ended."""

    at_once: int
    stop: threading.Event
    _: KW_ONLY
    started: Callable[[Job], None]
    ended: Callable[[Job, int, str], None]
    """Exit code, and the reason where it is not 0."""
    tick: Callable[[], object] = lambda: None
    """Called several times a second."""
    _alive: dict[int, tuple[Job, subprocess.Popen[bytes]]] = field(default_factory=dict, init=False)

    def run(self, jobs: Sequence[Job]) -> None:
        """Run all jobs to their ends.

        Raises :class:`Interrupted` when asked to stop, once every child has saved and left.
        """
        waiting = list(jobs)
        is_told = False
        try:
            while self._alive or (waiting and not self.stop.is_set()):
                self._fill(waiting)
                if self.stop.is_set() and not is_told:
                    is_told = True
                    for _, process in self._alive.values():
                        process.terminate()
                self._pause()
                self._collect()
                self.tick()
        finally:  # a second Ctrl-C, or an error: nothing is lost
            for _, process in self._alive.values():
                process.kill()
                process.wait()
        if self.stop.is_set():
            raise Interrupted(
                "the study was asked to stop; everything is saved, the same command continues it"
            )

    def _fill(self, waiting: list[Job]) -> None:
        for slot in range(self.at_once):
            if waiting and slot not in self._alive and not self.stop.is_set():
                job = waiting.pop(0)
                try:
                    self._alive[slot] = (job, self._start(job, slot))
                except OSError as error:  # it is named, and the others go on
                    self.ended(job, 1, f"{job.paths.root}: cannot be started: {error}")
                else:
                    self.started(job)

    def _start(self, job: Job, slot: int) -> subprocess.Popen[bytes]:
        line = [
            sys.executable, "-m", "llmatic_hpc", "run", str(job.config.absolute()),
            "--run-dir", str(job.paths.root),
        ]  # fmt: skip
        environment = dict(os.environ)
        if self.at_once > 1 and accelerators.expected():
            own = devices_of(slot, self.at_once, accelerators.visible())
            environment |= accelerators.only(",".join(own)) if own else {}
        job.paths.logs.mkdir(parents=True, exist_ok=True)
        with open(job.paths.console, "wb") as console:
            return subprocess.Popen(
                bound(line), stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                env=environment,
            )  # fmt: skip

    def _pause(self) -> None:
        if not self.stop.wait(PAUSE_SECONDS):
            return
        for _, process in self._alive.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(PAUSE_SECONDS)
            return

    def _collect(self) -> None:
        for slot, (job, process) in list(self._alive.items()):
            if (code := process.poll()) is None:
                continue
            del self._alive[slot]
            text = ""
            with suppress(OSError):
                text = job.paths.console.read_text(encoding="utf-8", errors="replace")
            self.ended(job, code, reason(code, text) if code else "")


def reason(code: int, printed: str) -> str:
    """Return why a process that ended with ``code`` did, from the last message that it printed."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    lines = printed.rstrip().splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith(("llmatic: ", "Error: "))]
    found = lines[starts[-1] :] if starts else lines[-1:]
    return " ".join(" ".join(found).split()).removeprefix("llmatic: ") or f"it ended with {code}"
